/**
 * Several passes over one network side by side, whose exchanges with other replicas travel together: every pass waits at
 * its next sum until all have come to theirs, and the group adds one vector. Forward and backward alike; the same bits as
 * one after the other. It knows no layers, and not what is summed.
 */
import type { VectorSum } from "./ops/norm_table.ts";
import type { Tape } from "./tape.ts";
import type { Tensor } from "./tensor.ts";

/** What one pass is given. */
export interface Lane {
  /** Records this pass alone; its tensors and gradients are those of the tape that the lanes belong to. */
  readonly tape: Tape;
  /** Sums that wait for the other passes. */
  readonly collective: VectorSum;
}

/**
 * Runs `passes` side by side and resolves to their outputs. All must ask for equally many sums in the same order, on
 * every replica of the group; they see each other's tensors through none but leaves.
 */
export async function runLanes(
  tape: Tape,
  { collective, passes }: { collective: VectorSum; passes: readonly ((lane: Lane) => Promise<Tensor>)[] },
): Promise<Tensor[]> {
  const sums = new JoinedSums(collective, passes.length);
  const tapes = tape.fork(passes.length);
  const outputs = await sums.together(
    passes.map((pass, lane) => () => pass({ tape: tapes[lane], collective: sums.lane(lane) })),
  );
  tape.recordLanes({ lanes: tapes, outputs, together: (runs) => sums.together(runs) });
  return outputs;
}

type Vector = Float32Array<ArrayBuffer>;

interface Call {
  readonly key: string;
  readonly values: Vector;
  readonly result: PromiseWithResolvers<Vector>;
}

/** Sums of several lanes as one: a call waits until every lane that is still running has called. */
class JoinedSums {
  readonly #collective: VectorSum;
  readonly #calls: (Call | undefined)[];
  readonly #running = new Set<number>();
  #failure: { error: unknown } | undefined;

  constructor(collective: VectorSum, lanes: number) {
    this.#collective = collective;
    this.#calls = Array.from({ length: lanes });
  }

  lane(index: number): VectorSum {
    return { allReduce: (key, values) => this.#call(index, { key, values }) };
  }

  /** Runs one action a lane; when one fails, what the others wait for fails with it. */
  async together<T>(runs: readonly (() => Promise<T>)[]): Promise<T[]> {
    runs.forEach((_, lane) => this.#running.add(lane));
    const settled = await Promise.allSettled(runs.map(async (run, lane) => {
      try {
        return await run();
      } catch (error) {
        this.#fail(error);
        throw error;
      } finally {
        this.#running.delete(lane);
        this.#sendWhenComplete();
      }
    }));
    // All have ended here, so that no lane goes on using buffers that the caller frees.
    if (this.#failure !== undefined) throw this.#failure.error;
    return settled.map((each) => {
      if (each.status === "rejected") throw each.reason;
      return each.value;
    });
  }

  #call(lane: number, { key, values }: Omit<Call, "result">): Promise<Vector> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure.error);
    const result = Promise.withResolvers<Vector>();
    this.#calls[lane] = { key, values, result };
    this.#sendWhenComplete();
    return result.promise;
  }

  #sendWhenComplete(): void {
    const calls = this.#calls.filter((call) => call !== undefined);
    if (calls.length === 0 || [...this.#running].some((lane) => this.#calls[lane] === undefined)) return;
    this.#calls.fill(undefined);
    this.#send(calls).catch((error) => {
      for (const { result } of calls) result.reject(error);
    });
  }

  async #send(calls: readonly Call[]): Promise<void> {
    const joined = new Float32Array(calls.reduce((total, { values }) => total + values.length, 0));
    let offset = 0;
    for (const { values } of calls) {
      joined.set(values, offset);
      offset += values.length;
    }
    const sum = await this.#collective.allReduce(calls.map(({ key }) => key).join(" + "), joined);
    offset = 0;
    // In the order of the lanes: what each does next comes in the same order on every run.
    for (const { values, result } of calls) {
      result.resolve(sum.slice(offset, offset + values.length));
      offset += values.length;
    }
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    for (const call of this.#calls) call?.result.reject(error);
    this.#calls.fill(undefined);
  }
}
