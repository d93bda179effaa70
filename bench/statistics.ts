/** Median and range of samples. It knows no clock: samples are given. */

/** What is kept of a list of samples. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  /** How many there were. */
  readonly samples: number;
}

/** Fewest samples that a benchmark takes. */
export const SAMPLES_MIN = 5;

/**
 * Median (mean of the two middle ones for an even number), least and greatest.
 *
 * @throws RangeError without samples, or when one is not a finite number.
 */
export function summarize(samples: readonly number[]): Summary {
  const bad = samples.find((sample) => !Number.isFinite(sample));
  if (samples.length === 0 || bad !== undefined) {
    throw new RangeError(
      `Cannot summarize samples: at least one and only finite numbers are needed, got ${bad ?? "none"}`,
    );
  }
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  return { median, min: sorted[0], max: sorted[sorted.length - 1], samples: samples.length };
}

/** An interval that a value lies in. */
export interface Interval {
  readonly low: number;
  readonly high: number;
}

/** How often {@linkcode medianInterval} draws anew. */
const RESAMPLES = 10_000;

/**
 * The 95% interval of the samples' median by the percentile bootstrap; equal samples give an equal interval.
 *
 * @throws RangeError as {@linkcode summarize} does.
 */
export function medianInterval(samples: readonly number[]): Interval {
  summarize(samples);
  const { length } = samples;
  let state = 1;
  // Marsaglia's xorshift32.
  const draw = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return samples[(state >>> 0) % length];
  };
  const medians = Float64Array.from({ length: RESAMPLES }, () => {
    const drawn = Float64Array.from({ length }, draw).sort();
    return (drawn[(length - 1) >> 1] + drawn[length >> 1]) / 2;
  }).sort();
  return { low: medians[Math.floor(0.025 * RESAMPLES)], high: medians[Math.ceil(0.975 * RESAMPLES) - 1] };
}

/** The order of `count` arms in a round: turned by one each round, so that none always comes first. */
export function roundOrder(count: number, round: number): number[] {
  return Array.from({ length: count }, (_, i) => (i + round) % count);
}

/** Geometric mean of positive numbers; NaN for none. */
export function geometricMean(values: readonly number[]): number {
  return Math.exp(values.reduce((sum, value) => sum + Math.log(value), 0) / values.length);
}
