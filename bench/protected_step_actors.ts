/**
 * The Worker of `bench/protected_step.ts` with all actors that a trainer speaks with, once over guarded links and once over
 * plain ones: a real sync shard and a real Sinkhorn coordinator, a loader of made-up images, what a controller does for a
 * step, and in place of a second trainer what that one would send.
 */
import type { CommitRecord } from "../actors/events.ts";
import { readCommits } from "../actors/run_files.ts";
import type { Behavior } from "../actors/runtime/behavior.ts";
import { actorIds } from "../actors/seats.ts";
import { sinkhornBehavior } from "../actors/sinkhorn.ts";
import { syncBehavior } from "../actors/sync.ts";
import { runPolicy } from "../actors/who_may_send.ts";
import type { TrainConfig } from "../config.ts";
import type { Link } from "../wire/link.ts";
import type { Message } from "../wire/messages.ts";
import { listen } from "../wire/socket_link.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import { workerSelf } from "../wire/worker_link.ts";
import { listenPlain } from "./plain_link.ts";
import { type ActorsNews, type ActorsOrder, type ArmName, armNames, benchToken } from "./protected_step_arms.ts";
import { benchRunFiles } from "./run_files.ts";
import { batchOf } from "./training_step.ts";

const learningRate = 0.01;
const trainers = [{ id: "trainer-0", low: 0, high: 1 }, { id: "trainer-1", low: 1, high: 2 }];
const self = workerSelf();

function tell(news: ActorsNews): void {
  self.postMessage(news, []);
}

/** What an actor answers trainer 0. */
type Answer = (message: Message) => readonly Message[];

/** A behaviour that hears of each message of trainer 0 once more, as if the other trainer had sent its own. */
function withOther<S>(behavior: Behavior<S>, { config, other }: {
  config: TrainConfig;
  other(message: Message): Message | undefined;
}): Answer {
  let [state] = behavior.init();
  const take = (message: Message, from: string): Message[] => {
    const [next, effects] = behavior.handle(state, message, from);
    state = next;
    return effects.flatMap((effect) => effect.kind === "send" && effect.to === "trainer-0" ? [effect.message] : []);
  };
  take({ type: "configure", config: { ...structuredClone(config) }, trainers, shards: ["sync-0"] }, "controller");
  return (message) => {
    const added = other(message);
    return [...added === undefined ? [] : take(added, "trainer-1"), ...take(message, "trainer-0")];
  };
}

/** The other trainer's part of a sum: nothing to add to gradients, nothing to share, the same batch statistics. */
function otherPart(message: Message): Message | undefined {
  if (message.type !== "contribute") return undefined;
  const { length } = f32FromWire(message.values);
  const values = message.join
    ? new Float32Array(0)
    : message.key.startsWith("gradient/")
    ? new Float32Array(length)
    : f32FromWire(message.values).slice();
  return { ...message, low: 1, high: 2, values: toWire(values) };
}

/** The line of a step as the controller writes it. */
function commitOf({ step, epoch, weights }: Extract<Message, { type: "prepared" }>): CommitRecord {
  const samples = { epoch: 1, first: 4096, count: 8192 };
  const run = { steps: 10_000, stepsPerEpoch: 100, images: 1_000_000, plateau: { factor: 1 } };
  return { step, epoch, weights, samples, trainers: trainers.length, run };
}

/** Everybody but the trainer, on links of one kind. */
async function openArm(arm: ArmName, { config, provider }: Extract<ActorsOrder, { what: "open" }>) {
  const guarded = arm === "with protection";
  const { files, remove } = await benchRunFiles(config);
  const batch = batchOf(0, config);
  const seen = { heartbeats: 0, pulses: 0 };
  const links = new Map<string, Link>();
  const controller: Answer = (message) => {
    if (message.type === "hello") {
      const adapter = provider === "auto" ? {} : { adapter: { provider } };
      return [{ type: "configure", config: { ...structuredClone(config) }, trainers, shards: ["sync-0"], ...adapter }];
    }
    if (message.type === "ready") tell({ what: "ready", arm });
    if (message.type === "heartbeat") seen.heartbeats += 1;
    if (message.type === "failed") self.postMessage({ what: "failed", error: message.error }, []);
    if (message.type !== "prepared") return [];
    const { step, epoch, weights, replicas } = message;
    tell({ what: "prepared", arm, step, weights, loss: replicas[0].loss });
    if (!guarded) return [];
    files.record({ kind: "commit", record: commitOf(message) });
    return [{ type: "commit", step, epoch, learningRate }];
  };
  const answers: Record<string, Answer> = {
    [actorIds.controller]: controller,
    [actorIds.loader]: (message) =>
      message.type === "want-batch" ? [{ ...batch, step: message.step, replica: message.replica }] : [],
    [actorIds.sinkhorn]: withOther(sinkhornBehavior(), {
      config,
      other: (message) =>
        message.type === "scores"
          ? { ...message, replica: 1, values: toWire(f32FromWire(message.values).slice()) }
          : undefined,
    }),
    "sync-0": withOther(syncBehavior(), { config, other: otherPart }),
  };
  const listeners = Object.entries(answers).map(([id, answer]) => {
    const onLink = (link: Link) => {
      if (link.pulse) {
        let heard = false;
        link.onMessage = () => {
          seen.pulses += 1;
          if (!heard) tell({ what: "pulse", from: link.peer });
          heard = true;
        };
        return;
      }
      links.set(id, link);
      link.onMessage = (message) => {
        for (const sent of answer(message)) link.send(sent);
      };
    };
    return { id, ...guarded ? listen({ id, token: benchToken, policy: runPolicy }, onLink) : listenPlain(onLink) };
  });
  return {
    urls: Object.fromEntries(listeners.map(({ id, url }) => [id, url])),
    take: (step: number) => links.get(actorIds.controller)?.send({ type: "step", step, epoch: 0, learningRate }),
    async close() {
      const commits = readCommits(files.folder).length;
      await Promise.all(listeners.map((listener) => listener.close()));
      await remove();
      return { ...seen, commits };
    },
  };
}

const arms = new Map<ArmName, Awaited<ReturnType<typeof openArm>>>();

self.addEventListener("message", async ({ data }) => {
  const order: ActorsOrder = data;
  if (order.what === "take") return arms.get(order.arm)?.take(order.step);
  if (order.what === "open") {
    for (const arm of armNames) arms.set(arm, await openArm(arm, order));
    const urlsOf = (arm: ArmName) => arms.get(arm)?.urls ?? {};
    return tell({
      what: "open",
      urls: { "with protection": urlsOf("with protection"), "without": urlsOf("without") },
    });
  }
  for (const [arm, open] of arms) tell({ what: "closed", arm, ...await open.close() });
});
