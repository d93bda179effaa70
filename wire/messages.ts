/**
 * The messages that travel between actors. The runtime's own come first; a table of another subject is added to
 * `messages` at the end. This file knows fields and their bounds, not what a role does with them.
 */
import { z } from "zod";
import { defineMessages, type MessageOf } from "./message.ts";
import { evaluationMessages } from "./evaluation_messages.ts";
import { checkpointMessages, dataMessages, exchangeMessages, lifeMessages } from "./training_messages.ts";

const actorId = z.string().min(1).max(200);
const text = z.string().max(16_384);

/** Levels of a log line. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Messages of the actor runtime; they know nothing of training. */
export const runtimeMessages = {
  /** First message of an actor to its controller. `url` is null for an actor that accepts no connections. */
  hello: z.strictObject({
    id: actorId,
    role: z.string().min(1).max(100),
    url: z.string().max(2_000).nullable(),
    pid: z.int().nonnegative(),
  }),
  /**
   * Where actors can be reached, and the number of the start that each of them is of: older ones are let in no more. Sent by
   * the controller, kept by the network.
   */
  directory: z.strictObject({
    actors: z.array(
      z.strictObject({ id: actorId, url: z.string().max(2_000), attempt: z.int().nonnegative().optional() }),
    ).max(100_000),
  }),
  /** Proof of life from the actor's main thread. `handled` counts the messages it has handled. */
  heartbeat: z.strictObject({ id: actorId, handled: z.int().nonnegative() }),
  /** Proof that the actor's process runs and can be reached, from a thread of its own ({@linkcode Link.pulse}). */
  pulse: z.strictObject({}),
  /** A newer token in place of the one that will expire; sent by whoever has the run's secret, kept by the network. */
  renewed: z.strictObject({ token: z.string().min(1).max(1_500) }),
  /** Delivered by the actor's own process when its controller is there again, maybe another one. */
  rejoined: z.strictObject({}),
  /** Asks an actor to end in good order. */
  stop: z.strictObject({ reason: text }),
  /** An actor's last words. */
  failed: z.strictObject({ error: text, logTail: z.array(text).max(1_000) }),
  log: z.strictObject({ level: z.enum(["debug", "info", "warn", "error"]), text }),
  ping: z.strictObject({ count: z.int().nonnegative() }),
  pong: z.strictObject({ count: z.int().nonnegative() }),
  /** Delivered by the actor's own network when a peer is lost; refused when it comes over a link. */
  "peer-down": z.strictObject({ peer: actorId, reason: text }),
};

/** Types that only the actor's own runtime may deliver. */
export const localMessageTypes: ReadonlySet<string> = new Set(["peer-down", "rejoined"]);

const shapes = {
  ...runtimeMessages,
  ...lifeMessages,
  ...dataMessages,
  ...exchangeMessages,
  ...checkpointMessages,
  ...evaluationMessages,
};

/** Every message that may travel. */
export const messages: ReturnType<typeof defineMessages<typeof shapes>> = defineMessages(shapes);

/** Any message; told apart by `type`. */
export type Message = MessageOf<typeof shapes>;
