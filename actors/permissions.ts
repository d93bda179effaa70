/**
 * What each role's process may do: the least that its work needs. The host that starts the process decides, not the
 * controller that asks for it.
 */

/** Name of the file in a run's folder that holds the run's secret, for people to copy to other machines. */
export const secretFile = "join.secret";

/** What a host allows on its machine. */
export interface HostGrants {
  /** Addresses that actors may listen on and connect to; empty allows all, for clusters over several machines. */
  readonly addresses: readonly string[];
  /** Folder of images, for the loader; empty: anywhere, for a list that names files of any folder. */
  readonly dataFolder: string;
  /** Folder of the run, for the checkpointer; absent on hosts that hold no checkpoints. */
  readonly runFolder?: string;
  /** Folder of npm packages, which native add-ons are loaded from; absent when it is not known. */
  readonly packagesFolder?: string;
  /** Folder of this program's sources, which a Worker's module is read from. */
  readonly codeFolder: string;
  /** Whether trainers may load Dawn, a native module. */
  readonly dawn: boolean;
}

/** Deno's permission flag to listen on and connect to `addresses`, or to any when there is none. */
export function netPermission(addresses: readonly string[]): string {
  // Deno takes addresses of IPv6 in brackets alone.
  const hosts = addresses.map((address) => address.includes(":") ? `[${address.replace(/^\[|\]$/g, "")}]` : address);
  return hosts.length === 0 ? "--allow-net" : `--allow-net=${hosts.join(",")}`;
}

/**
 * Deno's permission flags for a role.
 *
 * @throws {TypeError} for a role that no host starts.
 */
export function permissionsOf(role: string, grants: HostGrants): string[] {
  const net = netPermission(grants.addresses);
  switch (role) {
    case "sync":
    case "sinkhorn":
      return [net];
    case "trainer":
      // Deno's own WebGPU needs no permission; Dawn is a native add-on that looks around in files and environment.
      return grants.dawn
        ? [net, "--allow-ffi", "--allow-env", "--allow-read", ...noSecret(grants)]
        : [net, `--allow-read=${grants.codeFolder}`];
    case "loader":
      return [net, "--allow-env", ...loaderFiles(grants)];
    case "extractor":
      return [net, "--allow-ffi", "--allow-env", "--allow-read", ...noSecret(grants)];
    case "evaluator":
      // Decodes images as the loader does, computes as a trainer does, and steps back behind both.
      return [net, "--allow-ffi", "--allow-env", "--allow-read", "--allow-sys=setPriority", ...noSecret(grants)];
    case "checkpointer":
      return grants.runFolder === undefined
        ? [net]
        : [net, `--allow-read=${grants.runFolder}`, `--allow-write=${grants.runFolder}`, ...noSecret(grants)];
    default:
      throw new TypeError(
        `Cannot start an actor of role "${role}": hosts start loader, trainer, sync, sinkhorn, checkpointer, evaluator and extractor`,
      );
  }
}

/**
 * sharp is a native add-on: it needs ffi and its own files, asks `ldd` which C library this is, and looks up its settings
 * in the environment, which holds nothing but what the host put there.
 */
function loaderFiles(grants: HostGrants): string[] {
  const { packagesFolder, dataFolder } = grants;
  if (packagesFolder === undefined) return ["--allow-ffi", "--allow-read", ...noSecret(grants)];
  const ffi = `--allow-ffi=${packagesFolder}`;
  // Deno splits its lists at commas.
  if (dataFolder === "" || dataFolder.includes(",")) return [ffi, "--allow-read", ...noSecret(grants)];
  return [ffi, `--allow-read=${packagesFolder},/usr/bin/ldd,${dataFolder}`];
}

/** Keeps the run's secret from those who may read the folder that it lies in. */
function noSecret({ runFolder }: HostGrants): string[] {
  return runFolder === undefined
    ? []
    : [`--deny-read=${runFolder}/${secretFile}`, `--deny-write=${runFolder}/${secretFile}`];
}
