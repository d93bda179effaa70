/**
 * Fingerprints of tensors: two 32-bit sums over all words of a mix of a word and its place. Integers add up alike
 * in any order, so that one number tells whether two devices hold the same bits. A launch takes several tensors. It knows
 * no floats: -0 and +0 differ, and so do NaNs.
 */
import { grouped } from "./grouped.ts";
import type { Kernel } from "./kernel.ts";

/** Numbers of one tensor's fingerprint. */
export const FINGERPRINT_WORDS = 2;

/** Loads of one invocation where a tensor has enough words for many invocations. */
const LOADS_EACH = 256;
const LANES_MIN = 64;
const LANES_MAX = 16_384;

/**
 * How a word and its place become two numbers: few operations, because all weights are read with every step, each a
 * bijection of the word, so that no change of a single word is missed; of several, as good as none. Factors of places as
 * in xxHash (Collet).
 */
const PLACE = { factor: 0x9e3779b1, offset: 0x165667b1, shift: 3 } as const;
/** Brings a word's high bits down before the product, and the product's after it: its sign is lost to no factor. */
const FOLD = 16, SHIFT = 15;

/**
 * Adds the fingerprints of tensors of `sizes` words to `sums`, which starts as zeros. Four words are loaded at once where
 * four divides all sizes, which takes a software adapter a third of the time; the numbers are the same. Buffers: first
 * (number of the launch's first tensor), sums `[tensors, 2]` u32; of each tensor: words.
 */
export function fingerprintWords(sizes: readonly number[]): Kernel {
  const width = sizes.every((size) => size % 4 === 0) ? 4 : 1;
  const element = width === 4 ? "vec4u" : "u32";
  const loads = "arrayLength(&words@)";
  const lanes = `min(${loads}, clamp(${loads} / ${LOADS_EACH}u, ${LANES_MIN}u, ${LANES_MAX}u))`;
  const total = (sum: string) => width === 4 ? `${sum}.x + ${sum}.y + ${sum}.z + ${sum}.w` : sum;
  return grouped({
    label: `fingerprint by ${width}`,
    shared: [["first", "read", "u32"], ["sums", "write", "atomic<u32>"]],
    each: [["words", "read", element]],
    invocations: sizes.map((size) => Math.min(LANES_MAX, Math.max(LANES_MIN, Math.floor(size / width / LOADS_EACH)))),
    count: lanes,
    body: `
        let loads = ${loads};
        let lanes = ${lanes};
        var sum0 = ${element}(0);
        var sum1 = ${element}(0);
        for (var load = i; load < loads; load += lanes) {
          let word = words@[load];
          let at = ${width === 4 ? "4u * load + vec4u(0, 1, 2, 3)" : "load"};
          let key = at * ${PLACE.factor}u + ${PLACE.offset}u;
          let folded = word ^ key;
          let product = (folded ^ (folded >> ${element}(${FOLD}))) * (key | ${element}(1));
          let mixed = product ^ (product >> ${element}(${SHIFT}));
          sum0 += mixed;
          sum1 += mixed * ((key >> ${element}(${PLACE.shift})) | ${element}(1));
        }
        let place = ${FINGERPRINT_WORDS}u * (first[0] + tensor);
        atomicAdd(&sums[place], ${total("sum0")});
        atomicAdd(&sums[place + 1u], ${total("sum1")});`,
  });
}

/** CPU reference of one tensor's fingerprint. */
export function fingerprintReference(words: Uint32Array): [number, number] {
  let sum0 = 0, sum1 = 0;
  for (let at = 0; at < words.length; at++) {
    const key = (Math.imul(at, PLACE.factor) + PLACE.offset) | 0;
    const folded = words[at] ^ key;
    const product = Math.imul(folded ^ (folded >>> FOLD), key | 1);
    const mixed = product ^ (product >>> SHIFT);
    sum0 = (sum0 + mixed) | 0;
    sum1 = (sum1 + Math.imul(mixed, (key >>> PLACE.shift) | 1)) | 0;
  }
  return [sum0 >>> 0, sum1 >>> 0];
}
