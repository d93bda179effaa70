import { assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import type { Device } from "../../device/device.ts";
import { fingerprintReference, fingerprintWords } from "../../kernels/fingerprint.ts";
import { fingerprint, fingerprintHex } from "../../tensor/ops/fingerprint.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { numbers, runKernel } from "./run.ts";

const words = (values: Float32Array<ArrayBuffer>) => new Uint32Array(values.buffer, values.byteOffset, values.length);
const floats = (...bits: number[]) => new Float32Array(Uint32Array.from(bits).buffer);

eachDevice("fingerprintWords() matches the reference at odd sizes and at multiples of four", async (device) => {
  for (const sizes of [[1, 63, 373, 10_444, 746 * 373, 4_194_304 + 5], [4, 252, 260, 10_444, 746 * 4 * 373]]) {
    const given = sizes.map((size, seed) => numbers(size, seed + 1));
    const sums = new Float32Array(2 * (sizes.length + 3));
    // The launch's first tensor is the third of all.
    const [, found] = await runKernel(device, fingerprintWords(sizes), [floats(2), sums, ...given]);
    const expected = given.flatMap((values) => fingerprintReference(words(values)));
    assertEquals([...words(found)], [0, 0, 0, 0, ...expected, 0, 0]);
  }
});

eachDevice("the two numbers change with any bit, and when two elements change places", async (device) => {
  for (const size of [301, 300]) {
    const values = numbers(size, 7);
    const variants = [values];
    for (const at of [0, 150, size - 1]) {
      for (let bit = 0; bit < 32; bit++) {
        const flipped = values.slice();
        words(flipped)[at] ^= 1 << bit;
        variants.push(flipped);
      }
    }
    for (const [a, b] of [[0, 1], [0, size - 1], [149, 150]]) {
      const swapped = values.slice();
      [swapped[a], swapped[b]] = [values[b], values[a]];
      variants.push(swapped);
    }
    const pairs = await pairsOf(device, variants);
    for (const part of [0, 1]) assertEquals(new Set(pairs.map((pair) => pair[part])).size, variants.length);
  }
});

eachDevice("a fingerprint tells -0 from +0 and one NaN from another", async (device) => {
  const bits = [0, 0x80000000, 0x7fc00000, 0x7fc00001, 0xffc00000, 0x7f800001, 1];
  const pairs = await pairsOf(device, bits.map((word) => floats(word, 0x3f800000)));
  assertEquals(pairs, bits.map((word) => fingerprintReference(Uint32Array.of(word, 0x3f800000))));
  assertEquals(new Set(pairs.map(String)).size, bits.length);
});

Deno.test("fingerprintHex() depends on names and numbers, and has 32 characters", () => {
  const values = floats(1, 2, 3, 4);
  const hex = fingerprintHex(["a", "b"], values);
  assertMatch(hex, /^[0-9a-f]{32}$/);
  assertEquals(fingerprintHex(["a", "b"], values.slice()), hex);
  for (const [names, numbers] of [[["a", "c"], values], [["a", "b"], floats(1, 2, 4, 3)]] as const) {
    assertNotEquals(fingerprintHex(names, numbers), hex);
  }
  assertThrows(() => fingerprint([]), RangeError, "there are none");
});

/** The numbers of each tensor, of more tensors than one launch takes. */
async function pairsOf(device: Device, given: readonly Float32Array<ArrayBuffer>[]): Promise<number[][]> {
  const tensors = given.map((values) => tensorFrom(device, values, [values.length]));
  const sums = fingerprint(tensors);
  const [found] = await readTensors([sums]);
  freeTensors([...tensors, sums]);
  const flat = words(found);
  return given.map((_, index) => [flat[2 * index], flat[2 * index + 1]]);
}
