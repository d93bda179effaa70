/** The roles that actor processes of this program can take, each with the permissions that its process gets. */
import { openDevice } from "../device/open.ts";
import { memoryLinkPair } from "../wire/memory_link.ts";
import { workerLink } from "../wire/worker_link.ts";
import type { Link } from "../wire/link.ts";
import { checkpointerRole } from "./checkpointer.ts";
import { Engine } from "./engine/engine.ts";
import { loaderRole } from "./loader.ts";
import type { ActorContext, Role } from "./runtime/behavior.ts";
import { sinkhornRole } from "./sinkhorn.ts";
import { syncRole } from "./sync.ts";
import { trainerRole, workerId } from "./trainer.ts";

/** Roles of a run's actors when each has its own process: the trainer's engine lives in a Worker. */
export const processRoles: Readonly<Record<string, Role>> = {
  checkpointer: checkpointerRole,
  loader: loaderRole,
  sinkhorn: sinkhornRole,
  sync: syncRole,
  trainer: trainerRole(startWorker),
};

/** The same roles inside one process: engines share the thread. */
export const singleProcessRoles: Readonly<Record<string, Role>> = {
  ...processRoles,
  trainer: trainerRole(startEngine),
};

function startWorker(context: ActorContext): Link {
  const worker = new Worker(new URL("./engine/worker.ts", import.meta.url), { type: "module", name: context.id });
  const link = workerLink(worker, { peer: workerId });
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    link.close(event.message);
  });
  return link;
}

function startEngine(context: ActorContext): Link {
  const [trainerSide, engineSide] = memoryLinkPair(context.id, workerId);
  const engine = new Engine({
    id: context.id,
    send: (message) => engineSide.send(message),
    openDevice,
    now: () => performance.now(),
  });
  engineSide.onMessage = (message) => engine.receive(message);
  return trainerSide;
}
