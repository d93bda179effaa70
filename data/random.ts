/**
 * Counter-based randomness: every number is a function of (seed, purpose, indices such as step, sample and crop, draw),
 * never of a stream that several consumers share. So a result does not depend on who computes it, in which order, or
 * after how many restarts. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
 * SC 2011). This file knows no image, step or replica: only numbers.
 */

const MULTIPLIER_0 = 0xd2511f53;
const MULTIPLIER_1 = 0xcd9e8d57;
const WEYL_0 = 0x9e3779b9;
const WEYL_1 = 0xbb67ae85;
const TWO_32 = 0x100000000;

/** High 32 bits of the 64-bit product of two unsigned 32-bit integers. */
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff, aHigh = a >>> 16, bLow = b & 0xffff, bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const cross = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(cross / 0x10000)) >>> 0;
}

/** Four unsigned 32-bit integers. */
export type Words4 = [number, number, number, number];

/**
 * One block of Philox4x32-10: four random words for a counter and a key. Equal to Random123's `philox4x32_R(10, …)`.
 *
 * @param counter Four unsigned 32-bit words.
 * @param key Two unsigned 32-bit words.
 */
export function philox4x32(counter: Readonly<Words4>, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = multiplyHigh(MULTIPLIER_0, c0), low0 = Math.imul(MULTIPLIER_0, c0) >>> 0;
    const high1 = multiplyHigh(MULTIPLIER_1, c2), low1 = Math.imul(MULTIPLIER_1, c2) >>> 0;
    c0 = (high1 ^ c1 ^ k0) >>> 0;
    c1 = low1;
    c2 = (high0 ^ c3 ^ k1) >>> 0;
    c3 = low0;
    k0 = (k0 + WEYL_0) >>> 0;
    k1 = (k1 + WEYL_1) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** What a random stream is a function of. */
export interface RandomKey {
  /** The run's seed: an integer from 0 to 2^53 − 1. */
  readonly seed: number;
  /** What the numbers are for (`"crop"`, `"order"`, …): streams of different purposes are independent. */
  readonly purpose: string;
  /** Up to three integers below 2^32, e.g. `[step, sample, crop]`. @default [] */
  readonly indices?: readonly number[];
}

/** FNV-1a over UTF-16 code units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193) >>> 0;
  return hash;
}

/**
 * The Philox key of a seed and a purpose.
 *
 * @throws {RangeError} When the seed is not an integer from 0 to 2^53 − 1.
 */
export function deriveKey(seed: number, purpose: string): [number, number] {
  if (!Number.isSafeInteger(seed) || seed < 0) {
    throw new RangeError(`Cannot derive random numbers: the seed must be an integer from 0 to 2^53 - 1, got ${seed}`);
  }
  const [k0, k1] = philox4x32([hashText(purpose), purpose.length, 0, 0], [seed >>> 0, Math.floor(seed / TWO_32)]);
  return [k0, k1];
}

/** A private sequence of random numbers; create one per decision with {@linkcode randomStream}. */
export class RandomStream {
  readonly #key: readonly [number, number];
  readonly #indices: readonly [number, number, number];
  #block = 0;
  #words: Words4 = [0, 0, 0, 0];
  #used = 4;

  constructor(key: readonly [number, number], indices: readonly [number, number, number]) {
    this.#key = key;
    this.#indices = indices;
  }

  /** The next unsigned 32-bit integer. */
  word(): number {
    if (this.#used === 4) {
      this.#words = philox4x32([this.#block++, ...this.#indices], this.#key);
      this.#used = 0;
    }
    return this.#words[this.#used++];
  }

  /** A number in [low, high), default [0, 1), in steps of (high − low) / 2^32. */
  uniform(low = 0, high = 1): number {
    return low + (high - low) * (this.word() / TWO_32);
  }

  /**
   * An integer from `low` to `high − 1`, without bias.
   *
   * @throws {RangeError} When the range is empty, longer than 2^32 or not made of integers.
   */
  integer(low: number, high: number): number {
    const count = high - low;
    if (!Number.isSafeInteger(low) || !Number.isSafeInteger(count) || count < 1 || count > TWO_32) {
      throw new RangeError(`Cannot draw an integer: the range must hold 1 to 2^32 integers, got [${low}, ${high})`);
    }
    const limit = TWO_32 - (TWO_32 % count);
    let word = this.word();
    while (word >= limit) word = this.word();
    return low + (word % count);
  }

  /** True with the given probability; always draws one word. */
  chance(probability: number): boolean {
    return this.uniform() < probability;
  }

  /** A normally distributed number (Box–Muller; the second of the pair is discarded). */
  normal(mean = 0, standardDeviation = 1): number {
    const radius = Math.sqrt(-2 * Math.log((this.word() + 1) / TWO_32));
    return mean + standardDeviation * radius * Math.cos(2 * Math.PI * this.uniform());
  }

  /** Shuffles `items` in place (Fisher–Yates from the end) and returns them. */
  shuffle<T extends number[] | Uint32Array>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(0, i + 1);
      const kept = items[i];
      items[i] = items[j];
      items[j] = kept;
    }
    return items;
  }

  /** The integers 0 … count − 1 in random order. */
  permutation(count: number): number[] {
    return this.shuffle(Array.from({ length: count }, (_, i) => i));
  }
}

/**
 * The stream of random numbers that belongs to a key; equal keys give equal streams.
 *
 * @example
 * ```ts
 * import { randomStream } from "./random.ts";
 * const stream = randomStream({ seed: 7, purpose: "crop", indices: [120, 4711, 3] });
 * const angle = stream.uniform(-10, 10);
 * if (angle < -10 || angle >= 10) throw new Error("out of range");
 * ```
 * @throws {RangeError} When the seed or an index is out of range, or there are more than three indices.
 */
export function randomStream({ seed, purpose, indices = [] }: RandomKey): RandomStream {
  if (indices.length > 3) {
    throw new RangeError(`Cannot derive random numbers: at most 3 indices are possible, got ${indices.length}`);
  }
  for (const index of indices) {
    if (!Number.isInteger(index) || index < 0 || index >= TWO_32) {
      throw new RangeError(`Cannot derive random numbers: indices must be integers below 2^32, got ${index}`);
    }
  }
  return new RandomStream(deriveKey(seed, purpose), [indices[0] ?? 0, indices[1] ?? 0, indices[2] ?? 0]);
}

/** A permutation of 0 … size − 1 that is computed one element at a time, in constant memory. */
export interface IndexedPermutation {
  readonly size: number;
  /** The element at `position`. */
  at(position: number): number;
}

const FEISTEL_ROUNDS = 8;

/**
 * A permutation of 0 … size − 1 in constant memory: a Feistel network with Philox as its round function on the next even
 * number of bits, walked until the result falls below `size` (Black and Rogaway, "Ciphers with arbitrary finite
 * domains", 2002; four walks at most on average). A billion samples need no table.
 *
 * @throws {RangeError} When `size` is not an integer from 1 to 2^32.
 */
export function indexedPermutation(size: number, { seed, purpose, indices = [] }: RandomKey): IndexedPermutation {
  if (!Number.isInteger(size) || size < 1 || size > TWO_32) {
    throw new RangeError(`Cannot permute: the size must be an integer from 1 to 2^32, got ${size}`);
  }
  const key = deriveKey(seed, purpose);
  const halfBits = Math.max(1, Math.ceil(Math.log2(size) / 2));
  const half = 2 ** halfBits;
  const [first = 0, second = 0] = indices;
  const once = (value: number): number => {
    let left = Math.floor(value / half), right = value % half;
    for (let round = 0; round < FEISTEL_ROUNDS; round++) {
      const mixed = (left ^ philox4x32([right, round, first, second], key)[0]) & (half - 1);
      left = right;
      right = mixed;
    }
    return left * half + right;
  };
  return {
    size,
    at(position: number): number {
      if (!Number.isInteger(position) || position < 0 || position >= size) {
        throw new RangeError(`Cannot permute: the position must be an integer below ${size}, got ${position}`);
      }
      let value = once(position);
      while (value >= size) value = once(value);
      return value;
    },
  };
}
