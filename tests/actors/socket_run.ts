/**
 * A whole run inside one process whose actors talk over real WebSockets on 127.0.0.1: everything is as in a cluster but
 * the processes, so that a test can put actors of its own in place of some.
 */
import { controllerBehavior } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import { hostBehavior } from "../../actors/host.ts";
import type { Role } from "../../actors/runtime/behavior.ts";
import { type ActorHandle, runActor } from "../../actors/runtime/loop.ts";
import { openSocketNetwork } from "../../actors/runtime/network.ts";
import type { ActorExit, SpawnedActor } from "../../actors/runtime/spawn.ts";
import { actorIds } from "../../actors/seats.ts";
import { runPolicy } from "../../actors/who_may_send.ts";
import type { TrainConfig } from "../../config.ts";

/** What to run. */
export interface SocketRunOptions {
  readonly config: TrainConfig;
  readonly roles: Readonly<Record<string, Role>>;
  readonly resume?: { readonly step?: number };
}

const token = "a token for the tests of this process";
const listen = { hostname: "127.0.0.1", port: 0 };
const heartbeatMs = 500;

/** Runs to the end; resolves to all events. Failures are events too. */
export async function runOverSockets({ config, roles, resume }: SocketRunOptions): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  const opened = openSocketNetwork({ id: actorIds.controller, token, policy: runPolicy, listen });
  const controllerUrl = opened.url ?? "";
  const controller = runActor(
    controllerBehavior({ config, hosts: 1, resume }, {
      emit: (event) => events.push(event),
      now: () => performance.now(),
    }),
    { id: actorIds.controller, network: opened.network, log() {} },
  );
  const host = startHere({
    id: "host-0",
    controllerUrl,
    role: {
      listens: false,
      create: () =>
        hostBehavior({
          adapters: [],
          spawn: ({ id, role }) => startHere({ id, role: roles[role], controllerUrl }),
        }),
    },
  });
  await controller.done;
  await host.exited;
  await opened.close("the run has ended");
  return events;
}

/** Starts one actor here, as the process of an actor would. */
function startHere(actor: { id: string; role: Role; controllerUrl: string }): SpawnedActor {
  const { id, role, controllerUrl } = actor;
  let handle: ActorHandle | undefined;
  const run = async (): Promise<ActorExit> => {
    const opened = openSocketNetwork({ id, token, policy: runPolicy, listen: role.listens ? listen : undefined });
    opened.network.addUrl(actorIds.controller, controllerUrl);
    const behavior = await role.create({
      id,
      role: id,
      controller: actorIds.controller,
      options: {},
      adopt: (link) => opened.network.adopt(link),
    });
    opened.network.send(actorIds.controller, { type: "hello", id, role: id, url: opened.url, pid: Deno.pid });
    handle = runActor(behavior, {
      id,
      network: opened.network,
      log() {},
      controller: actorIds.controller,
      heartbeat: { to: actorIds.controller, intervalMs: heartbeatMs },
    });
    const end = await handle.done;
    await opened.close(end.reason.slice(0, 100));
    return { code: end.error === undefined ? 0 : 1, signal: null };
  };
  const exited = run();
  return {
    id,
    pid: Deno.pid,
    exited,
    logTail: () => [],
    stop() {
      handle?.stop("stopped by its host");
      return exited;
    },
  };
}
