/** A group of replicas inside one process: each member's call waits until all have called. It knows no link and no clock. */
import type { Collective } from "./collective.ts";
import { TreeAccumulator } from "./tree.ts";

/** One sum in the making. */
interface Round {
  accumulator: TreeAccumulator;
  length: number;
  waiting: PromiseWithResolvers<Float32Array<ArrayBuffer>>[];
  joined: Set<number>;
}

/**
 * `size` members of one group, in slot order. Each result is a copy of its own. A call that breaks the rules (another
 * length, the same member twice) rejects for every member of that round.
 */
export function memoryGroup(size: number): Collective[] {
  if (!Number.isInteger(size) || size < 1) throw new RangeError(`a group needs at least 1 member, got ${size}`);
  const rounds = new Map<string, Round>();
  return Array.from({ length: size }, (_, slot) => ({
    size,
    allReduce(key: string, values: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>> {
      const round = rounds.get(key) ?? newRound(size, values.length);
      rounds.set(key, round);
      const own = Promise.withResolvers<Float32Array<ArrayBuffer>>();
      round.waiting.push(own);
      try {
        join(round, { key, slot, values });
      } catch (error) {
        rounds.delete(key);
        for (const member of round.waiting) member.reject(error);
        return own.promise;
      }
      const sum = round.joined.size === size ? round.accumulator.result : undefined;
      if (sum !== undefined) {
        rounds.delete(key);
        for (const member of round.waiting) member.resolve(new Float32Array(sum));
      }
      return own.promise;
    },
  }));
}

/** A group of one: the sum of one vector is a copy of it. */
export const solo: Collective = {
  size: 1,
  allReduce: (_key, values) => Promise.resolve(new Float32Array(values)),
};

function newRound(size: number, length: number): Round {
  return { accumulator: new TreeAccumulator(size, length), length, waiting: [], joined: new Set() };
}

function join(round: Round, call: { key: string; slot: number; values: Float32Array }): void {
  const { key, slot, values } = call;
  if (round.joined.has(slot)) throw new RangeError(`all-reduce "${key}": member ${slot} called twice`);
  if (values.length !== round.length) {
    throw new RangeError(`all-reduce "${key}": members gave ${round.length} and ${values.length} values`);
  }
  round.joined.add(slot);
  round.accumulator.add({ low: slot, high: slot + 1 }, new Float32Array(values));
}
