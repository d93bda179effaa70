/**
 * What an actor is: a starting state, and a function from (state, message) to (next state, effects). Behaviours decide;
 * the loop acts. This file runs nothing.
 */
import type { Link } from "../../wire/link.ts";
import type { LogLevel, Message } from "../../wire/messages.ts";

/** Name of an actor, unique in its run: `"trainer-0"`. */
export type ActorId = string;

/** The sender of messages that an actor causes itself: results of its tasks, its timers, lost peers. */
export const self: ActorId = "self";

/** What an actor wants done; carried out in order after the state is replaced. */
export type Effect =
  | { kind: "send"; to: ActorId; message: Message }
  /**
   * Work outside the actor; its result comes back as a message from {@linkcode self}. A rejection, or running past
   * `timeoutMs`, fails the actor, naming the task; `signal` aborts then, and when the actor ends.
   */
  | { kind: "task"; name: string; timeoutMs: number; run(signal: AbortSignal): Promise<Message | void> }
  /** Delivers `message` to itself after `delayMs`; a timer of the same name is replaced. */
  | { kind: "timer"; name: string; delayMs: number; message: Message }
  | { kind: "cancel-timer"; name: string }
  /**
   * Ends all links to these actors, whose loss is then no news; what comes of them later finds new links, unless it is older
   * than start number `below`. Where that start is known already, nothing happens.
   */
  | { kind: "disconnect"; peers: readonly ActorId[]; reason: string; below?: number }
  | { kind: "log"; level: LogLevel; text: string }
  /** Ends the actor in good order. */
  | { kind: "stop"; reason: string }
  /** Ends the actor as failed; the controller is told. */
  | { kind: "fail"; error: Error };

/** A pure actor. `handle` may change `state` in place and return it. */
export interface Behavior<S> {
  init(): [S, Effect[]];
  handle(state: S, message: Message, from: ActorId): [S, Effect[]];
}

/** Writes one log line. */
export type Log = (level: LogLevel, text: string) => void;

/** What a role gets to make its behaviour from. */
export interface ActorContext {
  readonly id: ActorId;
  readonly role: string;
  /** The actor that started the run and takes failures. */
  readonly controller: ActorId;
  /** Options of the role, to be parsed by it. */
  readonly options: unknown;
  /** Joins a link of the role's own making, such as one to its Worker, to the actor's network. */
  readonly adopt: (link: Link) => void;
}

/** A role: how to make an actor of it. */
export interface Role {
  /** Whether other actors connect to it. */
  readonly listens: boolean;
  create(context: ActorContext): Behavior<unknown> | Promise<Behavior<unknown>>;
}
