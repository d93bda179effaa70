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
  trainer: trainerRole((context) => startWorker(context, "./engine/worker.ts")),
  // The same two threads, with another engine; nobody but the controller speaks to it.
  evaluator: { ...trainerRole(startEvaluator), listens: false },
  extractor: { ...trainerRole((context) => startWorker(context, "./engine/extract_worker.ts")), listens: false },
};

/** The same roles inside one process: engines share the thread. */
export const singleProcessRoles: Readonly<Record<string, Role>> = {
  ...processRoles,
  trainer: trainerRole(startEngine),
  evaluator: { ...trainerRole(startProber), listens: false },
};

function startWorker(
  context: ActorContext,
  module: `./engine/${"worker" | "probe_worker" | "extract_worker"}.ts`,
): Link {
  const worker = new Worker(new URL(module, import.meta.url), { type: "module", name: context.id });
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

/** Threads take on the niceness of the one that starts them: the driver's too. */
async function startEvaluator(context: ActorContext): Promise<Link> {
  const { constants, setPriority } = await import("node:os");
  setPriority(constants.priority.PRIORITY_LOW);
  return startWorker(context, "./engine/probe_worker.ts");
}

async function startProber(context: ActorContext): Promise<Link> {
  const { Prober } = await import("./engine/prober.ts");
  const { openDevice } = await import("../device/open.ts");
  const [evaluatorSide, proberSide] = memoryLinkPair(context.id, workerId);
  const prober = new Prober({
    send: (message) => proberSide.send(message),
    openDevice,
    now: () => performance.now(),
  });
  proberSide.onMessage = (message) => prober.receive(message);
  proberSide.onClose = () => prober.close();
  return evaluatorSide;
}
