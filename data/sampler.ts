/**
 * Which samples each replica sees at each step: a new permutation of all samples every epoch, cut into steps, replicas
 * and places. It is a pure function of (seed, epoch, step, replica), so a run resumes from any step without replaying
 * anything, whichever trainer carries the replica. It knows no image.
 */
import { type IndexedPermutation, indexedPermutation } from "./random.ts";

/** Options of {@linkcode createSampler}. */
export interface SamplerOptions {
  readonly seed: number;
  /** Number of samples in the source. */
  readonly size: number;
  /** Number of logical replicas. */
  readonly replicas: number;
  /** Samples of one replica in one step. */
  readonly samplesPerReplica: number;
}

/** Where a step lies: `epoch` and the step within it, both from 0. */
export interface SamplePlace {
  readonly epoch: number;
  readonly step: number;
}

/** The order in which samples are seen. */
export interface Sampler {
  /** Whole steps in an epoch; the samples left over are dropped, others each epoch. */
  readonly stepsPerEpoch: number;
  readonly samplesPerStep: number;
  /** Epoch and step within it of the run's step `globalStep`. */
  place(globalStep: number): SamplePlace;
  /** The whole epoch's order. */
  order(epoch: number): IndexedPermutation;
  /** Positions in the epoch's order of a replica's samples: `[first, first + samplesPerReplica)`. */
  firstPosition(step: number, replica: number): number;
  /** Ids of the samples of one replica in one step. */
  samples(place: SamplePlace & { readonly replica: number }): number[];
}

/**
 * The order of samples for a run. Within an epoch no sample comes twice.
 *
 * @example
 * ```ts
 * import { createSampler } from "./sampler.ts";
 * const sampler = createSampler({ seed: 1, size: 100, replicas: 4, samplesPerReplica: 8 });
 * const ids = sampler.samples({ ...sampler.place(5), replica: 2 }); // 8 ids
 * if (sampler.stepsPerEpoch !== 3 || ids.length !== 8) throw new Error("unexpected");
 * ```
 * @throws {RangeError} When a number is not a positive integer, or one step needs more samples than there are.
 */
export function createSampler({ seed, size, replicas, samplesPerReplica }: SamplerOptions): Sampler {
  for (const [name, value] of Object.entries({ size, replicas, samplesPerReplica })) {
    if (!Number.isSafeInteger(value) || value < 1) {
      throw new RangeError(`Cannot order samples: ${name} must be a positive integer, got ${value}`);
    }
  }
  const samplesPerStep = replicas * samplesPerReplica;
  if (samplesPerStep > size) {
    throw new RangeError(
      `Cannot order samples: one step needs ${replicas} × ${samplesPerReplica} = ${samplesPerStep} samples, ` +
        `the source has ${size}; use a smaller batch or more images`,
    );
  }
  const stepsPerEpoch = Math.floor(size / samplesPerStep);
  let lastEpoch = -1;
  let lastOrder: IndexedPermutation | null = null;
  const order = (epoch: number): IndexedPermutation => {
    if (lastOrder === null || epoch !== lastEpoch) {
      lastOrder = indexedPermutation(size, { seed, purpose: "sample order", indices: [epoch] });
      lastEpoch = epoch;
    }
    return lastOrder;
  };
  const firstPosition = (step: number, replica: number): number => {
    if (!(step >= 0 && step < stepsPerEpoch) || !(replica >= 0 && replica < replicas)) {
      throw new RangeError(
        `Cannot order samples: step must be below ${stepsPerEpoch} and replica below ${replicas}, ` +
          `got step ${step}, replica ${replica}`,
      );
    }
    return (step * replicas + replica) * samplesPerReplica;
  };
  return {
    stepsPerEpoch,
    samplesPerStep,
    place: (globalStep) => ({ epoch: Math.floor(globalStep / stepsPerEpoch), step: globalStep % stepsPerEpoch }),
    order,
    firstPosition,
    samples: ({ epoch, step, replica }) => {
      const first = firstPosition(step, replica);
      const permutation = order(epoch);
      return Array.from({ length: samplesPerReplica }, (_, i) => permutation.at(first + i));
    },
  };
}
