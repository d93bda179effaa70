/**
 * Runs one behaviour: takes one message at a time, replaces the state, carries out the effects. A throw, a rejected or
 * late task, or a full mailbox ends the actor as failed, and its controller is told with the stack. It knows no role.
 */
import type { Message } from "../../wire/messages.ts";
import { type ActorId, type Behavior, type Effect, type Log, self } from "./behavior.ts";
import { type Clock, realClock } from "./clock.ts";
import { Mailbox } from "./mailbox.ts";
import type { Network } from "./network.ts";

/** What an actor runs with. */
export interface LoopOptions {
  id: ActorId;
  network: Network;
  log: Log;
  clock?: Clock;
  /** Told of a failure before the actor ends. */
  controller?: ActorId;
  /** Last log lines, to go with the failure. */
  logTail?: () => string[];
  /** Sends `heartbeat` to `to` every `intervalMs`. */
  heartbeat?: { to: ActorId; intervalMs: number };
  /** @default 100,000 */
  mailboxCapacity?: number;
}

/** How an actor ended; `error` when it failed. */
export interface ActorEnd {
  readonly reason: string;
  readonly error?: Error;
}

/** A running actor. */
export interface ActorHandle {
  readonly id: ActorId;
  /** Resolves when the actor has ended; never rejects. */
  readonly done: Promise<ActorEnd>;
  /** Puts a message into its mailbox as if from `from` (default itself). */
  post(message: Message, from?: ActorId): void;
  /** Ends it from outside, in good order. */
  stop(reason: string): void;
}

/** Starts `behavior` and runs it until it stops or fails. */
export function runActor<S>(behavior: Behavior<S>, options: LoopOptions): ActorHandle {
  const loop = new Loop(behavior, options);
  loop.start();
  return loop;
}

class Loop<S> implements ActorHandle {
  readonly id: ActorId;
  readonly done: Promise<ActorEnd>;
  readonly #resolve: (end: ActorEnd) => void;
  readonly #clock: Clock;
  readonly #mailbox: Mailbox;
  readonly #timers = new Map<string, () => void>();
  /** Tasks under way, with what cancels their deadlines. */
  readonly #tasks = new Map<AbortController, () => void>();
  #state: S | undefined;
  #started = false;
  #scheduled = false;
  #ended = false;
  #handled = 0;
  #cancelHeartbeat: () => void = () => {};

  constructor(private readonly behavior: Behavior<S>, private readonly options: LoopOptions) {
    this.id = options.id;
    this.#clock = options.clock ?? realClock;
    this.#mailbox = new Mailbox(options.mailboxCapacity ?? 100_000);
    const { promise, resolve } = Promise.withResolvers<ActorEnd>();
    this.done = promise;
    this.#resolve = resolve;
  }

  start(): void {
    const { network } = this.options;
    network.onMessage = (message, from) => this.post(message, from);
    network.onPeerDown = (peer, reason) => this.post({ type: "peer-down", peer, reason: reason.slice(0, 16_000) });
    this.#beat();
    this.#guard("starting", () => {
      const [state, effects] = this.behavior.init();
      this.#state = state;
      this.#started = true;
      this.#act(effects);
    });
    this.#schedule();
  }

  post(message: Message, from: ActorId = self): void {
    if (this.#ended) return;
    this.#guard("receiving", () => this.#mailbox.put({ message, from }));
    this.#schedule();
  }

  stop(reason: string): void {
    this.#end({ reason });
  }

  #schedule(): void {
    if (this.#scheduled || this.#ended || !this.#started) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#drain();
    });
  }

  #drain(): void {
    // A bound, so that timers and sockets get their turn under a flood.
    for (let turn = 0; turn < 64 && !this.#ended; turn++) {
      const delivery = this.#mailbox.take();
      if (delivery === undefined) return;
      const { message, from } = delivery;
      this.#guard(`handling "${message.type}" from ${from}`, () => {
        const [state, effects] = this.behavior.handle(this.#state as S, message, from);
        this.#state = state;
        this.#handled++;
        this.#act(effects);
      });
    }
    if (this.#mailbox.length > 0 && !this.#ended) {
      this.#scheduled = true;
      this.#clock.after(0, () => {
        this.#scheduled = false;
        this.#drain();
      });
    }
  }

  #act(effects: readonly Effect[]): void {
    for (const effect of effects) {
      if (this.#ended) return;
      this.#perform(effect);
    }
  }

  #perform(effect: Effect): void {
    switch (effect.kind) {
      case "send":
        if (effect.to === this.id || effect.to === self) return this.post(effect.message);
        return this.options.network.send(effect.to, effect.message);
      case "task":
        return this.#runTask(effect);
      case "timer":
        this.#timers.get(effect.name)?.();
        this.#timers.set(
          effect.name,
          this.#clock.after(effect.delayMs, () => {
            this.#timers.delete(effect.name);
            this.post(effect.message);
          }),
        );
        return;
      case "cancel-timer":
        this.#timers.get(effect.name)?.();
        this.#timers.delete(effect.name);
        return;
      case "disconnect":
        for (const peer of effect.peers) this.options.network.disconnect(peer, effect.reason, effect.below);
        return;
      case "log":
        return this.options.log(effect.level, effect.text);
      case "stop":
        return this.#end({ reason: effect.reason });
      case "fail":
        return this.#fail(effect.error);
    }
  }

  #runTask(task: Extract<Effect, { kind: "task" }>): void {
    const controller = new AbortController();
    const finish = () => {
      cancelDeadline();
      this.#tasks.delete(controller);
    };
    const cancelDeadline = this.#clock.after(task.timeoutMs, () => {
      finish();
      const error = new Error(`task "${task.name}" did not finish within ${task.timeoutMs} ms`);
      controller.abort(error);
      this.#fail(error);
    });
    this.#tasks.set(controller, cancelDeadline);
    const open = () => this.#tasks.has(controller);
    new Promise<Message | void>((resolve) => resolve(task.run(controller.signal))).then((result) => {
      if (!open()) return;
      finish();
      if (result !== undefined) this.post(result);
    }, (error) => {
      if (!open()) return;
      finish();
      this.#fail(
        new Error(`task "${task.name}" failed: ${error instanceof Error ? error.message : error}`, { cause: error }),
      );
    });
  }

  #beat(): void {
    const heartbeat = this.options.heartbeat;
    if (heartbeat === undefined) return;
    this.#cancelHeartbeat = this.#clock.after(heartbeat.intervalMs, () => {
      if (this.#ended) return;
      this.options.network.send(heartbeat.to, { type: "heartbeat", id: this.id, handled: this.#handled });
      this.#beat();
    });
  }

  #guard(action: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      this.#fail(new Error(`${action}: ${error instanceof Error ? error.message : error}`, { cause: error }));
    }
  }

  #fail(error: Error): void {
    if (this.#ended) return;
    const text = stackText(error).slice(0, 16_000);
    this.options.log("error", text);
    const { controller, logTail } = this.options;
    if (controller !== undefined && controller !== this.id) {
      const tail = (logTail?.() ?? []).slice(-200).map((line) => line.slice(0, 4_000));
      this.options.network.send(controller, { type: "failed", error: text, logTail: tail });
    }
    this.#end({ reason: error.message, error });
  }

  #end(end: ActorEnd): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#cancelHeartbeat();
    for (const cancel of this.#timers.values()) cancel();
    this.#timers.clear();
    const tasks = [...this.#tasks];
    this.#tasks.clear();
    for (const [task, cancelDeadline] of tasks) {
      cancelDeadline();
      task.abort(new Error(end.reason));
    }
    this.#resolve(end);
  }
}

/** The error's stack with those of its causes, which hold where it really happened. */
export function stackText(error: Error): string {
  const text = error.stack ?? error.message;
  return error.cause instanceof Error ? `${text}\nCaused by: ${stackText(error.cause)}` : text;
}
