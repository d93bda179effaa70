/**
 * What each role's process may do: the least that its work needs. The host that starts the process decides, not the
 * controller that asks for it.
 */

/** What a host allows on its machine. */
export interface HostGrants {
  /** Addresses that actors may listen on and connect to; empty allows all, for clusters over several machines. */
  readonly addresses: readonly string[];
  /** Folder of images, for the loader. */
  readonly dataFolder: string;
  /** Folder of the run, for the checkpointer; absent on hosts that hold no checkpoints. */
  readonly runFolder?: string;
  /** Folder of this program's sources, which a Worker's module is read from. */
  readonly codeFolder: string;
  /** Whether trainers may load Dawn, a native module. */
  readonly dawn: boolean;
}

/**
 * Deno's permission flags for a role.
 *
 * @throws {TypeError} for a role that no host starts.
 */
export function permissionsOf(role: string, grants: HostGrants): string[] {
  const net = grants.addresses.length === 0 ? "--allow-net" : `--allow-net=${grants.addresses.join(",")}`;
  switch (role) {
    case "sync":
    case "sinkhorn":
      return [net];
    case "trainer":
      // Deno's own WebGPU needs no permission; Dawn is a native add-on that looks around in files and environment.
      return grants.dawn
        ? [net, "--allow-ffi", "--allow-env", "--allow-read"]
        : [net, `--allow-read=${grants.codeFolder}`];
    case "loader":
      // sharp is a native add-on: it needs ffi, reads its own files, and looks up its settings in the environment.
      return [net, "--allow-ffi", "--allow-env", "--allow-read"];
    case "evaluator":
      // Decodes images as the loader does, computes as a trainer does, and steps back behind both.
      return [net, "--allow-ffi", "--allow-env", "--allow-read", "--allow-sys=setPriority"];
    case "checkpointer":
      return grants.runFolder === undefined
        ? [net]
        : [net, `--allow-read=${grants.runFolder}`, `--allow-write=${grants.runFolder}`];
    default:
      throw new TypeError(
        `Cannot start an actor of role "${role}": hosts start loader, trainer, sync, sinkhorn, checkpointer and evaluator`,
      );
  }
}
