/**
 * A host as a role of its own process, and as something that joins a running controller. It turns orders into Deno
 * processes with the permissions of their role.
 */
import { z } from "zod";
import type { Log, Role } from "./runtime/behavior.ts";
import { type ActorEnd, runActor } from "./runtime/loop.ts";
import { openSocketNetwork } from "./runtime/network.ts";
import { spawnActor } from "./runtime/spawn.ts";
import { hostBehavior, type HostPorts } from "./host.ts";
import { type HostGrants, permissionsOf } from "./permissions.ts";
import { actorIds } from "./seats.ts";

/** What a host needs to start actors. */
export interface HostOptions {
  readonly controllerUrl: string;
  readonly token: string;
  /** Address on which this host's actors listen. */
  readonly listen: string;
  /** Environment of processes that use the GPU. */
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  /** One line per adapter. */
  readonly adapters: readonly string[];
  readonly grants: HostGrants;
}

const schema: z.ZodType<HostOptions> = z.strictObject({
  controllerUrl: z.string(),
  token: z.string(),
  listen: z.string(),
  gpuEnvironment: z.record(z.string(), z.string()),
  adapters: z.array(z.string()),
  grants: z.strictObject({
    addresses: z.array(z.string()),
    dataFolder: z.string(),
    runFolder: z.string().optional(),
    codeFolder: z.string(),
    dawn: z.boolean(),
  }),
});

const heartbeatMs = 1_000;
/** This program's entry, which runs one actor when its first argument is `actor`. */
const entry = new URL("../main.ts", import.meta.url);

/** Starts actors as processes of this machine. */
export function processPorts(options: HostOptions): HostPorts {
  return {
    adapters: options.adapters,
    spawn({ id, role, environment, onLogLine }) {
      return spawnActor({
        entry,
        permissions: permissionsOf(role, options.grants),
        env: role === "trainer" ? { ...options.gpuEnvironment, ...environment } : {},
        onLogLine,
        bootstrap: {
          id,
          role,
          controller: actorIds.controller,
          controllerUrl: options.controllerUrl,
          token: options.token,
          listen: options.listen,
          listenPort: 0,
          heartbeatMs,
          options: {},
        },
      });
    },
  };
}

/** The host's role in a process of its own. */
export const hostRole: Role = {
  listens: false,
  create: (context) => hostBehavior(processPorts(schema.parse(context.options))),
};

/**
 * Joins a controller as one more host and serves it until the run ends.
 *
 * @throws {WireError} when the controller cannot be reached or refuses the token.
 */
export async function joinAsHost(id: string, options: HostOptions, log: Log): Promise<ActorEnd> {
  const { controllerUrl, token } = options;
  const opened = openSocketNetwork({ id, token });
  opened.network.addUrl(actorIds.controller, controllerUrl);
  opened.network.send(actorIds.controller, { type: "hello", id, role: "host", url: null, pid: Deno.pid });
  const handle = runActor(hostBehavior(processPorts(options)), {
    id,
    network: opened.network,
    log,
    controller: actorIds.controller,
    heartbeat: { to: actorIds.controller, intervalMs: heartbeatMs },
  });
  const end = await handle.done;
  await opened.close(end.reason.slice(0, 100));
  return end;
}
