/**
 * A host as a role of its own process, and as something that joins a running controller. It turns orders into Deno
 * processes with the permissions of their role.
 */
import type { Log, Role } from "./runtime/behavior.ts";
import { Authority } from "../wire/identity.ts";
import { connectSocket } from "../wire/socket_link.ts";
import { type ActorEnd, runActor } from "./runtime/loop.ts";
import { openSocketNetwork } from "./runtime/network.ts";
import { startPulse } from "./runtime/pulse.ts";
import { lookForController } from "./runtime/rejoin.ts";
import { findActor, killProcess, spawnActor, type SpawnedActor } from "./runtime/spawn.ts";
import { hostBehavior, type HostPorts } from "./host.ts";
import { type HostOptions, parseHostOptions } from "./host_options.ts";
import { permissionsOf } from "./permissions.ts";
import { actorIds } from "./seats.ts";
import { runPolicy } from "./who_may_send.ts";

export type { HostOptions } from "./host_options.ts";

/** Roles that use the GPU. */
const computing = ["trainer", "evaluator", "extractor"];
const heartbeatMs = 1_000;
/** This program's entry, which runs one actor when its first argument is `actor`. */
const entry = new URL("../main.ts", import.meta.url);

/** Starts actors as processes of this machine; `onActor` gets each of them. */
export function processPorts(options: HostOptions, onActor: (actor: SpawnedActor) => void = () => {}): HostPorts {
  const authority = new Authority(options.token);
  const told = (actor: SpawnedActor): SpawnedActor => {
    onActor(actor);
    return actor;
  };
  return {
    adapters: options.adapters,
    code: options.code,
    // A host that has joined ends processes of its own starting only, whatever a controller says.
    find: options.actorsOutlive ? (process) => told(findActor(process)) : undefined,
    spawn({ id, role, attempt, environment, onLogLine }) {
      // The secret stays here: an actor gets what lets it in as itself, in this attempt, for some minutes.
      const pass = authority.pass({ actor: id, role, attempt });
      return told(spawnActor({
        entry,
        permissions: permissionsOf(role, options.grants),
        env: computing.includes(role) ? { ...options.gpuEnvironment, ...environment } : {},
        onLogLine,
        bootstrap: {
          id,
          role,
          controller: actorIds.controller,
          controllerUrl: options.controllerUrl,
          token: pass,
          tls: options.tls,
          listen: options.listen,
          listenPort: 0,
          heartbeatMs,
          rejoinMs: options.rejoinMs,
          outlives: options.actorsOutlive,
          breakpoints: options.breakpoints,
          options: {},
        },
      }));
    },
  };
}

/** The host's role in a process of its own. */
export const hostRole: Role = {
  listens: false,
  create(context) {
    const actors = new Set<SpawnedActor>();
    endWith(actors);
    return hostBehavior(processPorts(parseHostOptions(context.options), (actor) => {
      actors.add(actor);
      actor.exited.then(() => actors.delete(actor));
    }));
  },
};

/** At SIGTERM the process ends at once and takes its actors along, which outlive any other end of it. */
function endWith(actors: ReadonlySet<SpawnedActor>): void {
  if (Deno.build.os === "windows") return;
  Deno.addSignalListener("SIGTERM", () => {
    for (const { pid } of actors) killProcess(pid);
    Deno.exit(143);
  });
}

/** Aborts at the first SIGTERM, which asks a host to hand over and go; the second one ends the process at once. */
export function leaveOnSigterm(log: Log): AbortSignal {
  const leave = new AbortController();
  if (Deno.build.os === "windows") return leave.signal;
  Deno.addSignalListener("SIGTERM", () => {
    if (leave.signal.aborted) Deno.exit(143);
    log("info", "leaves the run at the next border of two steps; another SIGTERM ends it at once");
    leave.abort("SIGTERM");
  });
  return leave.signal;
}

/**
 * Joins a controller as one more host and serves it until the run ends, or until `leave` aborts and its work is handed over;
 * a controller that is lost is looked for while the actors live on, if the options say so.
 *
 * @throws {WireError} when the controller cannot be reached or refuses the token.
 */
export async function joinAsHost(
  id: string,
  options: HostOptions,
  log: Log,
  leave?: AbortSignal,
): Promise<ActorEnd> {
  const { controllerUrl, token, tls } = options;
  const connect = () => connectSocket(controllerUrl, { id, token, tls, policy: runPolicy, peer: actorIds.controller });
  const link = await connect();
  const opened = openSocketNetwork({ id, token, tls, policy: runPolicy });
  opened.network.addUrl(actorIds.controller, controllerUrl);
  opened.network.adopt(link);
  const greet = () =>
    opened.network.send(actorIds.controller, { type: "hello", id, role: "host", url: null, pid: Deno.pid });
  greet();
  const handle = runActor(hostBehavior(processPorts(options)), {
    id,
    network: opened.network,
    log,
    controller: actorIds.controller,
    heartbeat: { to: actorIds.controller, intervalMs: heartbeatMs },
  });
  const { rejoinMs } = options;
  if (rejoinMs !== undefined) {
    lookForController({
      network: opened.network,
      controller: actorIds.controller,
      rejoinMs,
      connect,
      onBack() {
        greet();
        handle.post({ type: "rejoined" });
      },
      onLost: (reason) =>
        log("warn", `${id} has lost the controller and looks for it for ${rejoinMs / 1000} s: ${reason}`),
    });
  }
  const goes = () => handle.post({ type: "leaving", reason: `${leave?.reason}`.slice(0, 100) });
  if (leave?.aborted) goes();
  else leave?.addEventListener("abort", goes, { once: true });
  const endPulse = startPulse({ id, to: actorIds.controller, url: controllerUrl, token, tls, policy: runPolicy });
  const end = await handle.done;
  endPulse();
  leave?.removeEventListener("abort", goes);
  await opened.close(end.reason.slice(0, 100));
  return end;
}
