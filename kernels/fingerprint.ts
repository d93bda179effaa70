/**
 * Fingerprints of tensors: two 32-bit sums over all words of a strong mix of a word and its place. Integers add up alike
 * in any order, so that one number tells whether two devices hold the same bits. A launch takes several tensors. It knows
 * no floats: -0 and +0 differ, and so do NaNs.
 */
import { grouped } from "./grouped.ts";
import type { Kernel } from "./kernel.ts";

/** Numbers of one tensor's fingerprint. */
export const FINGERPRINT_WORDS = 2;

/** Loads of one invocation where a tensor has enough words for many invocations. */
const LOADS_EACH = 64;
const LANES_MIN = 64;
const LANES_MAX = 16_384;

/** How a word and its place become a number: `x` before the two rounds, then their shifts and factors. */
interface Mix {
  /** Factor of a word's place, and what is added to it. */
  readonly place: readonly [factor: number, offset: number];
  readonly shifts: readonly [number, number, number];
  readonly factors: readonly [number, number];
}

/** The finalisers of MurmurHash3 (Appleby, `fmix32`) and of Wellons' "lowbias32". */
const MIXES: readonly [Mix, Mix] = [
  { place: [0x9e3779b1, 0x165667b1], shifts: [16, 13, 16], factors: [0x85ebca6b, 0xc2b2ae35] },
  { place: [0xc2b2ae3d, 0x27d4eb2f], shifts: [16, 15, 16], factors: [0x7feb352d, 0x846ca68b] },
];

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
          ${MIXES.map((mix, number) => mixWgsl(mix, { number, element })).join("\n          ")}
        }
        let place = ${FINGERPRINT_WORDS}u * (first[0] + tensor);
        atomicAdd(&sums[place], ${total("sum0")});
        atomicAdd(&sums[place + 1u], ${total("sum1")});`,
  });
}

function mixWgsl({ place, shifts, factors }: Mix, { number, element }: { number: number; element: string }): string {
  const x = `x${number}`;
  const shifted = (by: number) => `(${x} ^ (${x} >> ${element}(${by})))`;
  return `var ${x} = word ^ (at * ${place[0]}u + ${place[1]}u);
          ${x} = ${shifted(shifts[0])} * ${factors[0]}u;
          ${x} = ${shifted(shifts[1])} * ${factors[1]}u;
          sum${number} += ${shifted(shifts[2])};`;
}

/** CPU reference of one tensor's fingerprint. */
export function fingerprintReference(words: Uint32Array): [number, number] {
  const [first, second] = MIXES.map(({ place, shifts, factors }) => {
    let sum = 0;
    for (let at = 0; at < words.length; at++) {
      let x = words[at] ^ (Math.imul(at, place[0]) + place[1]);
      x = Math.imul(x ^ (x >>> shifts[0]), factors[0]);
      x = Math.imul(x ^ (x >>> shifts[1]), factors[1]);
      sum = (sum + (x ^ (x >>> shifts[2]))) | 0;
    }
    return sum >>> 0;
  });
  return [first, second];
}
