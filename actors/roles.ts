/**
 * The roles that actor processes of this program can take. Each is loaded when it is started: a process must not load
 * what it has no permission for, such as the image decoder's native add-on.
 */
import { memoryLinkPair } from "../wire/memory_link.ts";
import { workerLink } from "../wire/worker_link.ts";
import type { Link } from "../wire/link.ts";
import type { ActorContext, Role } from "./runtime/behavior.ts";
import { trainerRole, workerId } from "./trainer.ts";

/** Roles of a run's actors when each has its own process: the trainer's engine lives in a Worker. */
export const processRoles: Readonly<Record<string, Role>> = {
  checkpointer: { listens: true, create: async () => (await import("./checkpointer.ts")).checkpointerBehavior() },
  host: {
    listens: false,
    create: async (context) => await (await import("./host_process.ts")).hostRole.create(context),
  },
  loader: { listens: true, create: async () => (await import("./loader.ts")).loaderBehavior() },
  sinkhorn: { listens: true, create: async () => (await import("./sinkhorn.ts")).sinkhornBehavior() },
  sync: { listens: true, create: async () => (await import("./sync.ts")).syncBehavior() },
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

async function startEngine(context: ActorContext): Promise<Link> {
  const { Engine } = await import("./engine/engine.ts");
  const { openDevice } = await import("../device/open.ts");
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
