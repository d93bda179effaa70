/**
 * Fingerprints of tensors as they lie on the device, outside any tape: whether two devices hold the same bits can be told
 * without reading the bits back. What is compared with what is not known here.
 */
import { createHash } from "node:crypto";
import { FINGERPRINT_WORDS, fingerprintWords } from "../../kernels/fingerprint.ts";
import { inLaunches, numberOn } from "../launches.ts";
import { type Tensor, zeros } from "../tensor.ts";

/**
 * The fingerprints' numbers, `[tensors, 2]`, of tensors that lie on one device; the caller reads and frees them. Rows of
 * tensors whose size four divides come first, each kind in the order given. They are u32 in the guise of f32:
 * {@linkcode fingerprintHex} takes them as they come from `readTensors`.
 *
 * @throws {RangeError} When there are no tensors.
 */
export function fingerprint(tensors: readonly Tensor[]): Tensor {
  if (tensors.length === 0) {
    throw new RangeError("Cannot take a fingerprint: some tensors must be given, there are none");
  }
  const { device } = tensors[0];
  const sums = zeros(device, [tensors.length, FINGERPRINT_WORDS]);
  const isWide = ({ size }: Tensor) => size % 4 === 0;
  const wide = tensors.filter(isWide), others = tensors.filter((tensor) => !isWide(tensor));
  for (const [kind, before] of [[wide, 0], [others, wide.length]] as const) {
    inLaunches(kind, { device, shared: 2, each: 1 }, (some, first) => {
      device.run(fingerprintWords(some.map(({ size }) => size)), [
        numberOn(device, before + first),
        sums.buffer,
        ...some.map(({ buffer }) => buffer),
      ]);
    });
  }
  return sums;
}

/**
 * The tensors' common fingerprint, 32 hex characters: the start of the SHA-256 of their names, one a line, and the numbers
 * (little-endian u32) behind them.
 */
export function fingerprintHex(names: readonly string[], numbers: Float32Array<ArrayBuffer>): string {
  const bytes = new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength);
  return createHash("sha256").update(names.map((name) => `${name}\n`).join("")).update(bytes).digest("hex").slice(
    0,
    32,
  );
}
