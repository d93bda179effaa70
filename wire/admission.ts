/**
 * What a link lets in, decided from a message's type and length before its body is decoded or memory is set aside for it:
 * who may send what to whom, how large it may be, how often it may come. The table itself is given; no role is known here.
 */
import { WireError } from "./error.ts";

/** Who may send which message, by role, and how large it may be. */
export interface Policy {
  /** The role that an actor's id stands for; undefined when it stands for none. */
  roleOf(id: string): string | undefined;
  /** Whether an actor of role `from` may send a message of `type` to one of role `to`. */
  maySend(type: string, ends: { from: string; to: string }): boolean;
  /** Most bytes of a message of `type`. */
  bytesMax(type: string): number;
  /** Most messages of `type` a second that one link takes in the long run; ten times as many may come at once. */
  ratePerSecond(type: string): number;
}

/** Checks one message that arrives; throws a {@linkcode WireError} when it must not. */
export type Admit = (type: string, byteLength: number) => void;

/** Seconds' worth of messages that may come at once. */
const burstSeconds = 10;

/**
 * The check of one link's messages from `peer` to `own`. Rates are counted together for all types of the same rate.
 *
 * @param ends.now Milliseconds of a clock that never goes back.
 */
export function admission(policy: Policy, ends: { peer: string; own: string; now(): number }): Admit {
  const from = policy.roleOf(ends.peer), to = policy.roleOf(ends.own);
  const buckets = new Map<number, { left: number; atMs: number }>();
  return (type, byteLength) => {
    if (from === undefined || to === undefined || !policy.maySend(type, { from, to })) {
      throw refusal(type, { from: from ?? ends.peer, to: to ?? ends.own });
    }
    const bytesMax = policy.bytesMax(type);
    if (byteLength > bytesMax) {
      throw new WireError(`"${type}" of ${byteLength} bytes is larger than the ${bytesMax} that it may have`);
    }
    const rate = policy.ratePerSecond(type);
    if (rate === Infinity) return;
    const nowMs = ends.now();
    const bucket = buckets.get(rate) ?? { left: rate * burstSeconds, atMs: nowMs };
    buckets.set(rate, bucket);
    bucket.left = Math.min(rate * burstSeconds, bucket.left + rate * (nowMs - bucket.atMs) / 1000) - 1;
    bucket.atMs = nowMs;
    if (bucket.left < 0) throw new WireError(`"${type}" comes more often than ${rate} times a second`);
  };
}

/** The error for a message that its sender's role may not send. */
export function refusal(type: string, { from, to }: { from: string; to: string }): WireError {
  return new WireError(`role ${from} may not send "${type}" to role ${to}`);
}
