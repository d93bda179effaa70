/**
 * Runs a heavy operation's variants on made-up numbers and reads what they give, so that results can be compared before
 * anything is timed. The numbers are small fractions of two: exact in f16, and never at ReLU's threshold after a
 * normalisation, so that variants that round differently take the same branches. It knows no clock and chooses nothing.
 */
import type { Program, Storage } from "../kernels/variant.ts";
import type { Device, DeviceBuffer } from "./device.ts";
import type { HeavyUse } from "./tune_shapes.ts";

/** What a variant gave: numbers by what they are, such as `output` or `variance`. */
export type Results = ReadonlyMap<string, Float32Array>;

/** Buffers that hold f32 whatever the storage (kernels/operations.ts). */
const F32_ROLES = new Set(["normaliser", "gate", "weightGradient", "moments", "sums"]);
/** Odd, so that the numbers do not repeat in step with rows or channels. */
const BLOCK_WORDS = 999_983;
/** Most bytes of one buffer that are compared: all of it, or pieces spread over it, first and last included. */
const SAMPLE_BYTES_MAX = 4 * 2 ** 20;
const PIECES = 64;
/** Largest difference over the root mean square: orders of summation in f32; one rounding of the stored f16. */
const BOUNDS: Readonly<Record<Storage, number>> = { f32: 1e-3, f16: 2e-2 };

function fieldOf(shape: unknown, name: string): unknown {
  return typeof shape === "object" && shape !== null ? Reflect.get(shape, name) : undefined;
}

function storageOf(role: string, shape: unknown): Storage {
  return !F32_ROLES.has(role) && fieldOf(shape, "storage") === "f16" ? "f16" : "f32";
}

/** The buffers of one operation and shape, filled. */
export class Trial {
  readonly #device: Device;
  readonly #use: HeavyUse;
  readonly #buffers = new Map<string, DeviceBuffer>();

  constructor(device: Device, use: HeavyUse) {
    this.#device = device;
    this.#use = use;
    for (const [role, byteLength] of Object.entries(use.operation.bufferBytes(use.shape))) {
      if (byteLength !== undefined) this.#buffers.set(role, this.#filled(role, byteLength));
    }
  }

  /** Encodes the program once. */
  launch(program: Program<string>): void {
    this.#launch(program, () => {});
  }

  /** Resolves when all that was launched has run. */
  async finish(): Promise<void> {
    const [buffer] = this.#buffers.values();
    await this.#device.read([{ buffer, byteLength: 4 }]);
  }

  /** Runs the program once over cleared outputs: what it gave. */
  async results(program: Program<string>): Promise<Results> {
    const written = new Set(
      program.launches.flatMap(({ kernel, buffers }) =>
        buffers.filter((role, i) => kernel.bindings[i] === "write" && role !== "workspace")
      ),
    );
    for (const role of written) {
      const buffer = this.#buffers.get(role);
      if (buffer !== undefined) this.#device.clear(buffer);
    }
    const reads: Promise<readonly [string, Float32Array][]>[] = [];
    this.#launch(program, (partials) => {
      for (const role of written) {
        const buffer = this.#buffers.get(role);
        if (buffer !== undefined) reads.push(this.#sample(role, buffer).then((values) => [[role, values] as const]));
        else reads.push(this.#totals(role, { buffer: partials, byteLength: program.partialBytes ?? 0 }));
      }
    });
    return new Map((await Promise.all(reads)).flat());
  }

  /** Gives the buffers back. */
  free(): void {
    for (const buffer of this.#buffers.values()) this.#device.free(buffer);
    this.#buffers.clear();
  }

  #launch(
    { launches, workspaceBytes, partialBytes = 0 }: Program<string>,
    use: (partials: DeviceBuffer) => void,
  ): void {
    const workspace = this.#device.allocate(workspaceBytes);
    const partials = this.#device.allocate(partialBytes);
    for (const { kernel, buffers } of launches) {
      const bound = buffers.map((role) => role === "workspace" ? workspace : this.#buffers.get(role) ?? partials);
      this.#device.run(kernel, bound);
    }
    use(partials);
    this.#device.free(workspace);
    this.#device.free(partials);
  }

  #filled(role: string, byteLength: number): DeviceBuffer {
    if (role === "normaliser") return this.#device.upload(normaliser(byteLength / 16));
    const buffer = this.#device.allocate(byteLength);
    const words = Math.min(BLOCK_WORDS, Math.ceil(byteLength / 4));
    const bytes = new Uint8Array(block(role, { storage: storageOf(role, this.#use.shape), words }).buffer);
    if (words < BLOCK_WORDS) {
      this.#device.write(buffer, bytes);
      return buffer;
    }
    const source = this.#device.upload(bytes);
    for (let targetOffset = 0; targetOffset < buffer.byteLength; targetOffset += bytes.byteLength) {
      const rest = Math.min(bytes.byteLength, buffer.byteLength - targetOffset);
      this.#device.copy(source, buffer, { targetOffset, byteLength: rest });
    }
    this.#device.free(source);
    return buffer;
  }

  async #sample(role: string, buffer: DeviceBuffer): Promise<Float32Array> {
    const storage = storageOf(role, this.#use.shape);
    if (buffer.byteLength <= SAMPLE_BYTES_MAX) {
      const [bytes] = await this.#device.read([{ buffer }]);
      return numbersOf(bytes, storage);
    }
    const pieceBytes = SAMPLE_BYTES_MAX / PIECES;
    const samples = this.#device.allocate(SAMPLE_BYTES_MAX);
    for (let i = 0; i < PIECES; i++) {
      const sourceOffset = 4 * Math.floor((buffer.byteLength - pieceBytes) * i / (PIECES - 1) / 4);
      this.#device.copy(buffer, samples, { sourceOffset, targetOffset: i * pieceBytes, byteLength: pieceBytes });
    }
    const read = this.#device.read([{ buffer: samples }]);
    this.#device.free(samples);
    return numbersOf((await read)[0], storage);
  }

  /** Partial sums added up, because variants cut them into chunks differently. */
  async #totals(
    role: string,
    partials: { buffer: DeviceBuffer; byteLength: number },
  ): Promise<readonly [string, Float32Array][]> {
    const channels = Number(fieldOf(this.#use.shape, role === "moments" ? "outChannels" : "inChannels"));
    const values = numbersOf((await this.#device.read([partials]))[0], "f32");
    return role === "moments" ? momentTotals(values, channels) : sumTotals(values, channels);
  }
}

/** Mean, variance and rows of each channel from `[chunks, 3, channels]`: sum, centred squares, rows (Chan et al. 1983). */
export function momentTotals(values: Float32Array, channels: number): readonly [string, Float32Array][] {
  const [mean, variance, rows] = [0, 1, 2].map(() => new Float32Array(channels));
  const chunks = values.length / (3 * channels);
  for (let channel = 0; channel < channels; channel++) {
    const at = (chunk: number, part: number) => values[(chunk * 3 + part) * channels + channel];
    let sum = 0, count = 0, squares = 0;
    for (let chunk = 0; chunk < chunks; chunk++) {
      sum += at(chunk, 0);
      count += at(chunk, 2);
    }
    for (let chunk = 0; chunk < chunks; chunk++) {
      const n = at(chunk, 2);
      if (n !== 0) squares += at(chunk, 1) + n * (at(chunk, 0) / n - sum / count) ** 2;
    }
    [mean[channel], variance[channel], rows[channel]] = [sum / count, squares / count, count];
  }
  return [["mean", mean], ["variance", variance], ["rows", rows]];
}

/** Totals over chunks of `[chunks, 2, channels]`. */
export function sumTotals(values: Float32Array, channels: number): readonly [string, Float32Array][] {
  const totals = new Float64Array(2 * channels);
  for (let i = 0; i < values.length; i++) totals[i % totals.length] += values[i];
  const part = (from: number) => Float32Array.from(totals.subarray(from, from + channels));
  return [["gradient sums", part(0)], ["gradient · deviation sums", part(channels)]];
}

/**
 * Why `results` do not agree with those of the reference; `undefined` where they do. Differences are measured against the
 * root mean square of the reference's numbers (a mean's also against the spread around it).
 */
export function disagreement(
  reference: Results,
  results: Results,
  { storage, of }: { storage: Storage; of: string },
): string | undefined {
  for (const [what, expected] of reference) {
    const actual = results.get(what);
    if (actual?.length !== expected.length) return `gives no "${what}" like that of "${of}"`;
    let squares = 0, most = 0;
    for (let i = 0; i < expected.length; i++) {
      if (!Number.isFinite(actual[i])) return `gives ${actual[i]} in "${what}"`;
      squares += expected[i] ** 2;
      most = Math.max(most, Math.abs(actual[i] - expected[i]));
    }
    if (what === "mean") { for (const variance of reference.get("variance") ?? []) squares += variance; }
    const scale = Math.sqrt(squares / expected.length);
    if (most > BOUNDS[storage] * scale) {
      const share = (most / scale).toPrecision(2);
      return `differs from "${of}" in "${what}" by ${share} of its root mean square (bound ${BOUNDS[storage]})`;
    }
  }
}

/** The first number that is none, as `disagreement` tells it. */
export function notFinite(results: Results): string | undefined {
  for (const [what, values] of results) {
    const found = values.find((value) => !Number.isFinite(value));
    if (found !== undefined) return `gives ${found} in "${what}"`;
  }
}

/** How the activations of a shape are stored. */
export function activationStorage(shape: unknown): Storage {
  return storageOf("", shape);
}

function numbersOf(bytes: Uint8Array<ArrayBuffer>, storage: Storage): Float32Array {
  return storage === "f32" ? new Float32Array(bytes.buffer) : Float32Array.from(new Float16Array(bytes.buffer));
}

/** Numbers in [-1, 1] in steps of 1/32 (a gate: (0, 1]), other ones for each role. */
function block(
  role: string,
  { storage, words }: { storage: Storage; words: number },
): Float32Array<ArrayBuffer> | Float16Array<ArrayBuffer> {
  const values = storage === "f32" ? new Float32Array(words) : new Float16Array(2 * words);
  let state = [...role].reduce((sum, letter) => sum * 31 + letter.charCodeAt(0) >>> 0, 7);
  for (let i = 0; i < values.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223 >>> 0; // Numerical Recipes' generator
    const step = (state >>> 16) % 65;
    values[i] = role === "gate" ? (step % 32 + 1) / 32 : (step - 32) / 32;
  }
  return values;
}

/** A normaliser table `[4, channels]`; beta's odd 128ths keep normalised values off zero. */
function normaliser(channels: number): Float32Array<ArrayBuffer> {
  const table = new Float32Array(4 * channels);
  for (let c = 0; c < channels; c++) {
    table[c] = ((c * 7) % 33 - 16) / 32;
    table[channels + c] = ((c * 5) % 4 + 1) / 2;
    table[2 * channels + c] = (2 * ((c * 11) % 32) - 31) / 128;
    table[3 * channels + c] = ((c * 3) % 4 + 1) / 2;
  }
  return table;
}
