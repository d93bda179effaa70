/** A controller of some hosts, driven by hand, for tests of what it does about losses. */
import { controllerBehavior } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import type { Effect } from "../../actors/runtime/behavior.ts";
import { findPreset, parseConfig } from "../../config.ts";
import type { Message } from "../../wire/messages.ts";

export const actors = ["checkpointer", "loader-0", "sinkhorn", "sync-0", "trainer-0", "trainer-1"];
export const digest = "d".repeat(64);

/** A controller that has just ordered its first step, unless it is not to be `started`. */
export function drive(
  restarts: number,
  hosts: readonly string[] = ["host-0"],
  { started = true, replaceLocalHost, now = () => 1, steps = 6, trainers = 2, code }: {
    started?: boolean;
    steps?: number;
    trainers?: number;
    replaceLocalHost?: () => void;
    code?: string;
    now?: () => number;
  } = {},
) {
  const tiny = findPreset("test-tiny");
  const config = parseConfig({
    ...tiny,
    steps,
    checkpoint: { everySteps: 2, keep: 2 },
    cluster: { ...tiny.cluster, trainers, restarts },
    data: { folder: "/images" },
    run: { folder: "/runs", name: "run" },
  }, { source: "the test" });
  const events: RunEvent[] = [];
  const behavior = controllerBehavior({ config, hosts: hosts.length, code }, {
    emit: (event) => events.push(event),
    now,
    replaceLocalHost,
  });
  const [state] = behavior.init();
  let done: Effect[] = [];
  const driven = {
    events,
    say(from: string, message: Message): void {
      done.push(...behavior.handle(state, message, from)[1]);
    },
    sent(): string[] {
      const sends = done.flatMap((effect) => effect.kind === "send" ? [`${effect.message.type} ${effect.to}`] : []);
      done = [];
      return sends;
    },
    /** Whose links the last order to join an epoch ends, as `to` is told. */
    gone(to: string): readonly { actor: string }[] {
      const orders = done.flatMap((effect) => effect.kind === "send" && effect.to === to ? [effect.message] : []);
      const last = orders.findLast(({ type }) => type === "regroup");
      return last?.type === "regroup" ? last.gone : [];
    },
    /** Orders of one type since they were last looked at. */
    orders<T extends Message["type"]>(type: T): Extract<Message, { type: T }>[] {
      const messages = done.flatMap((effect) => effect.kind === "send" ? [effect.message] : []);
      return messages.filter((message): message is Extract<Message, { type: T }> => message.type === type);
    },
    effects: (): readonly Effect[] => done,
    timers: () => done.flatMap((effect) => effect.kind === "timer" ? [`${effect.name} ${effect.delayMs}`] : []),
    /** All actors say hello and are configured. */
    start(): void {
      const all = state.placements.map(({ id }) => id);
      for (const [at, id] of all.entries()) {
        driven.say(id, { type: "hello", id, role: "any", url: `ws://${id}`, pid: 10 + at });
      }
      for (const id of all) {
        if (id === "loader-0") driven.say(id, { type: "source", images: 25, stepsPerEpoch: 2 });
        driven.say(id, { type: "ready", detail: "" });
      }
    },
    /** All trainers that have replicas prepare the step. */
    step(step: number, { loss = 2, weights = {} }: { loss?: number; weights?: Record<string, string> } = {}): void {
      const { epoch, seats } = state;
      for (const { id, low, high } of seats) {
        const replicas = Array.from({ length: high - low }, (_, i) => ({
          replica: low + i,
          loss,
          embeddingDeviation: 0.1,
        }));
        const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
        driven.say(id, { type: "prepared", epoch, weights: weights[id] ?? "same", step, replicas, ...times });
      }
      driven.say("sinkhorn", { type: "assignment", epoch, step, perplexity: 5 });
    },
    kill(actor: string, host = "host-0"): void {
      driven.say(host, { type: "actor-exited", actor, code: 137, lines: [] });
    },
    /** Its link to the controller breaks, and nobody tells more. */
    lose(peer: string): void {
      driven.say("self", { type: "peer-down", peer, reason: "reset" });
      driven.say("self", { type: "alarm", name: "lost" });
    },
    /** All trainers die at once, so that none is left to go on with. */
    killTrainers(): void {
      driven.kill("trainer-1");
      driven.kill("trainer-0");
    },
    /** Everybody who is asked to joins the epoch. */
    regroup(...ids: string[]): void {
      for (const id of ids) driven.say(id, { type: "regrouped", epoch: state.epoch });
    },
    /** An actor that was started anew is configured. */
    come(...ids: string[]): void {
      for (const id of ids) {
        driven.say(id, { type: "hello", id, role: "any", url: `ws://${id}/anew`, pid: 2 });
        driven.say(id, { type: "ready", detail: "" });
      }
    },
    /** Hosts have ended all actors. */
    halt(...hosts: string[]): void {
      for (const host of hosts) driven.say(host, { type: "halted", attempt: state.epoch });
    },
    epoch: () => state.epoch,
    kinds: () => events.map(({ kind }) => kind),
  };
  for (const host of hosts) driven.say(host, { type: "host-ready", adapters: [] });
  if (started) driven.start();
  driven.sent();
  return driven;
}
