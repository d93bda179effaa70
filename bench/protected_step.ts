/**
 * Whole steps of one trainer of two, taken as in a run and the same without what protects them, in turns on one device from
 * the same weights. The trainer is real (main thread, engine in a Worker, links over WebSockets); so are the sync shard and
 * the Sinkhorn coordinator. With protection: fingerprint, copies that undo, running statistics shared, the commit's line and
 * the wait for it, admission and credit on all links, heartbeats, and the pulses of all actors of a machine.
 */
import process from "node:process";
import { LinkNetwork, openSocketNetwork } from "../actors/runtime/network.ts";
import { type Clock, realClock } from "../actors/runtime/clock.ts";
import { type ActorHandle, runActor } from "../actors/runtime/loop.ts";
import { startPulse } from "../actors/runtime/pulse.ts";
import { trainerBehavior, workerId } from "../actors/trainer.ts";
import { runPolicy } from "../actors/who_may_send.ts";
import type { TrainConfig } from "../config.ts";
import type { Provider } from "../device/device.ts";
import { workerLink } from "../wire/worker_link.ts";
import { connectPlain } from "./plain_link.ts";
import {
  type ActorsNews,
  type ActorsOrder,
  type ArmName,
  armNames,
  benchToken,
  type EnginesNews,
  type EnginesOrder,
  type Phases,
  type SignsOfProtection,
} from "./protected_step_arms.ts";
import { Thread } from "./thread.ts";

/** Actors of a machine with one trainer, each with its pulse. */
const machine = ["host-0", "trainer-0", "sync-0", "sinkhorn", "loader-0", "checkpointer"];
/** As in a run. */
const heartbeatMs = 1_000;
/** Rest before each step, for what the last one and threads that have just started or ended still do. */
const restMs = 200;

/** What a step gave. */
export interface TakenStep {
  /** From the order to take it until the device has moved the weights and the controller has its report. */
  readonly ms: number;
  /** What all threads of this process used of the processor meanwhile, the software adapter's included. */
  readonly cpuMs: number;
  /** As the engine sees them. */
  readonly phases: Phases;
  readonly loss: number;
  /** Fingerprint of the weights that it began with; empty without protection. */
  readonly weights: string;
}

/** Both arms, ready for steps. */
export interface ProtectedSteps {
  /** Takes step `step` of an arm, each arm's in order from 0. */
  take(arm: ArmName, step: number): Promise<TakenStep>;
  /** SHA-256 over the whole state of an arm (weights, running statistics, momentum) before `step`. */
  state(arm: ArmName, step: number): Promise<string>;
  /** Ends everything and tells what was seen of the protection. */
  close(): Promise<Record<ArmName, SignsOfProtection>>;
}

/** Timers that fire only while they may; what was due meanwhile fires then. */
class GatedClock implements Clock {
  readonly now = realClock.now;
  readonly date = realClock.date;
  #open = false;
  #held: (() => void)[] = [];

  set open(open: boolean) {
    this.#open = open;
    if (!open) return;
    for (const action of this.#held.splice(0)) action();
  }

  after(delayMs: number, action: () => void): () => void {
    // Without a delay it is the loop's own next turn.
    return realClock.after(delayMs, () => this.#open || delayMs === 0 ? action() : void this.#held.push(action));
  }
}

/** The trainer's main thread, as `actors/runtime/process.ts` has it, on links of the arm's kind. */
function startTrainer(
  arm: ArmName,
  { urls, port, clock }: { urls: Readonly<Record<string, string>>; port: MessagePort; clock: Clock },
): { actor: ActorHandle; close(): Promise<void> } {
  const id = "trainer-0", guarded = arm === "with protection";
  const network = guarded
    ? openSocketNetwork({ id, token: benchToken, policy: runPolicy }).network
    : new LinkNetwork({ id, connect: (peer, url) => connectPlain(url, { id, peer }) });
  for (const [peer, url] of Object.entries(urls)) network.addUrl(peer, url);
  network.adopt(workerLink(port, { peer: workerId }));
  port.start();
  const actor = runActor(trainerBehavior(), {
    id,
    network,
    log: () => {},
    controller: "controller",
    ...guarded ? { clock, heartbeat: { to: "controller", intervalMs: heartbeatMs } } : {},
  });
  network.send("controller", { type: "hello", id, role: "trainer", url: null, pid: Deno.pid });
  return {
    actor,
    async close() {
      actor.stop("the benchmark is over");
      await network.close("the benchmark is over");
    },
  };
}

/** What the benchmark speaks with. */
interface Threads {
  readonly actors: Thread<ActorsOrder, ActorsNews>;
  readonly engines: Thread<EnginesOrder, EnginesNews>;
}

async function takeStep(arm: ArmName, step: number, { actors, engines }: Threads): Promise<TakenStep> {
  await new Promise((resolve) => setTimeout(resolve, restMs));
  const start = performance.now(), used = process.cpuUsage();
  actors.tell({ what: "take", arm, step });
  const same = (news: { arm: ArmName; step: number }) => news.arm === arm && news.step === step;
  const [{ loss, weights }, { phases }] = await Promise.all([
    actors.hear("prepared", same),
    engines.hear("settled", same),
  ]);
  const ms = performance.now() - start, { user, system } = process.cpuUsage(used);
  return { ms, cpuMs: (user + system) / 1000, phases, loss, weights };
}

/** Opens both arms for a configuration of two replicas, of which the second's trainer is made up. */
export async function openProtectedSteps(
  config: TrainConfig,
  { provider = "auto", beating = machine }: {
    provider?: Provider | "auto";
    /** Actors with a pulse. @default all of a machine with one trainer */
    beating?: readonly string[];
  } = {},
): Promise<ProtectedSteps> {
  const threadOf = <Order, News extends { what: string }>(name: string) =>
    new Thread<Order, News>(new URL(`./protected_step_${name}.ts`, import.meta.url));
  const actors = threadOf<ActorsOrder, ActorsNews>("actors");
  const engines = threadOf<EnginesOrder, EnginesNews>("engines");
  const clock = new GatedClock();
  actors.tell({ what: "open", config: structuredClone(config), provider });
  const { urls } = await actors.hear("open");
  const trainers = new Map(armNames.map((arm) => {
    const { port1, port2 } = new MessageChannel();
    engines.tell({ what: "begin", arm, port: port1 }, [port1]);
    const trainer = startTrainer(arm, { urls: urls[arm], port: port2, clock });
    trainer.actor.done.then(({ error }) => {
      if (error === undefined) return;
      actors.fail(error);
      engines.fail(error);
    });
    return [arm, trainer];
  }));
  for (const arm of armNames) await actors.hear("ready", (news) => news.arm === arm);

  const step = (arm: ArmName, index: number) => takeStep(arm, index, { actors, engines });
  return {
    async take(arm, index) {
      const heard = beating.map((id) => actors.hear("pulse", ({ from }) => from === id));
      const pulses = beating.map((id) =>
        startPulse({
          id,
          to: "controller",
          url: urls["with protection"].controller,
          token: benchToken,
          policy: runPolicy,
        })
      );
      const endPulses = () => pulses.splice(0).forEach((end) => end());
      await Promise.all(heard);
      // A start of so many threads is felt for a while: the other arm has it too, and their end.
      if (arm === "without") endPulses();
      else clock.open = true;
      try {
        return await step(arm, index);
      } finally {
        clock.open = false;
        endPulses();
      }
    },
    async state(arm, step) {
      engines.tell({ what: "state", arm, step });
      return (await engines.hear("state", (news) => news.arm === arm)).digest;
    },
    async close() {
      for (const trainer of trainers.values()) await trainer.close();
      actors.tell({ what: "close" });
      engines.tell({ what: "close" });
      await engines.hear("closed");
      const signs = await Promise.all(armNames.map((arm) => actors.hear("closed", (news) => news.arm === arm)));
      for (const thread of [actors, engines]) thread.close();
      return { "with protection": signs[0], "without": signs[1] };
    },
  };
}
