/**
 * Several replicas' parts of one step, which end together: when one fails, the others no longer wait for what may never
 * come, and nobody goes on before all have ended, so that no part touches buffers that the step's end frees or puts back.
 * It knows no tensor.
 */

/** The parts of one step. */
export class Joint {
  readonly #failure = Promise.withResolvers<never>();

  constructor() {
    // Whoever waits is told; a step in which nobody waits any more must not end the process.
    this.#failure.promise.catch(() => {});
  }

  /** Waits until all parts have ended, then rejects with the first failure if there was one. */
  async all<Value>(parts: readonly Promise<Value>[]): Promise<Value[]> {
    const ended = await Promise.allSettled(parts.map(async (part) => {
      try {
        return await part;
      } catch (error) {
        // The first call decides; later ones do nothing.
        this.#failure.reject(error);
        throw error;
      }
    }));
    if (ended.some(({ status }) => status === "rejected")) await this.#failure.promise;
    return ended.flatMap((each) => each.status === "fulfilled" ? [each.value] : []);
  }

  /** The same promise, which rejects too as soon as a part has failed; for all that comes from other replicas. */
  within<Value>(promise: Promise<Value>): Promise<Value> {
    return Promise.race([this.#failure.promise, promise]);
  }
}
