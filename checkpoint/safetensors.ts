/**
 * The safetensors format: 8 bytes of little-endian header length, a JSON header, then the tensors' bytes end to end
 * (https://github.com/huggingface/safetensors). Writing is canonical (tensors sorted by element size, then name, as the
 * reference library does), so equal tensors give equal files. It knows no file system and no model.
 */
import { CheckpointError } from "./error.ts";

/** Element sizes in bytes of the format's dtypes. */
export const safetensorsDtypeBytes = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  F8_E4M3: 1,
  F8_E5M2: 1,
  I8: 1,
  U8: 1,
  BOOL: 1,
} as const;

/** Element type names of the format. */
export type SafetensorsDtype = keyof typeof safetensorsDtypeBytes;

/** One tensor: row-major little-endian elements. */
export interface SafeTensor {
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A whole file. */
export interface Safetensors {
  readonly metadata: Readonly<Record<string, string>>;
  /** In the order in which they lie in the file. */
  readonly tensors: ReadonlyMap<string, SafeTensor>;
}

/** Largest header that is read or written; the reference library's limit. */
export const safetensorsHeaderBytesMax = 100_000_000;

/** A tensor that views `array`; `shape` defaults to `[array.length]`. */
export function f32Tensor(array: Float32Array<ArrayBuffer>, shape: readonly number[] = [array.length]): SafeTensor {
  const count = shape.reduce((product, dimension) => product * dimension, 1);
  if (count !== array.length) {
    throw new RangeError(`tensor of shape [${shape.join(", ")}] needs ${count} elements, got ${array.length}`);
  }
  return { dtype: "F32", shape: [...shape], bytes: new Uint8Array(array.buffer, array.byteOffset, array.byteLength) };
}

/** The elements of an F32 tensor: a view where its bytes are 4-aligned, else a copy. */
export function f32Of(tensor: SafeTensor): Float32Array<ArrayBuffer> {
  if (tensor.dtype !== "F32") throw new CheckpointError(`reading a tensor as F32: its dtype is ${tensor.dtype}`);
  const bytes = tensor.bytes.byteOffset % 4 === 0 ? tensor.bytes : new Uint8Array(tensor.bytes);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/**
 * The file's bytes in order, piece by piece: the header, then each tensor's own bytes without a copy.
 *
 * @throws {CheckpointError} when a tensor's bytes do not match its dtype and shape, or a name is reserved.
 */
export function* safetensorsPieces(
  tensors: ReadonlyMap<string, SafeTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Generator<Uint8Array<ArrayBuffer>> {
  const sorted = [...tensors].sort(([nameA, a], [nameB, b]) =>
    safetensorsDtypeBytes[b.dtype] - safetensorsDtypeBytes[a.dtype] || (nameA < nameB ? -1 : 1)
  );
  const entries: [string, unknown][] = [];
  const metadataEntries = Object.entries(metadata).sort(([a], [b]) => a < b ? -1 : 1);
  if (metadataEntries.length > 0) entries.push(["__metadata__", Object.fromEntries(metadataEntries)]);
  let offset = 0;
  for (const [name, { dtype, shape, bytes }] of sorted) {
    if (name === "__metadata__") throw new CheckpointError('writing safetensors: the name "__metadata__" is reserved');
    const problem = sizeProblem(dtype, shape, bytes.byteLength);
    if (problem !== undefined) throw new CheckpointError(`writing safetensors: tensor "${name}" ${problem}`);
    entries.push([name, { dtype, shape, data_offsets: [offset, offset + bytes.byteLength] }]);
    offset += bytes.byteLength;
  }
  // Object.fromEntries defines a field named "__proto__" like any other.
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  // Padded so that the data starts at a multiple of 8.
  const padded = Math.ceil(json.byteLength / 8) * 8;
  if (padded > safetensorsHeaderBytesMax) {
    throw new CheckpointError(
      `writing safetensors: header of ${padded} bytes is larger than ${safetensorsHeaderBytesMax}`,
    );
  }
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  yield header;
  for (const [, { bytes }] of sorted) yield bytes;
}

/** {@linkcode safetensorsPieces} joined. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, SafeTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array<ArrayBuffer> {
  const pieces = [...safetensorsPieces(tensors, metadata)];
  const file = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.byteLength, 0));
  let offset = 0;
  for (const piece of pieces) {
    file.set(piece, offset);
    offset += piece.byteLength;
  }
  return file;
}

/**
 * Reads a whole file; the tensors are views of `file`.
 *
 * @throws {CheckpointError} for a truncated file, a header that is too large or malformed, an unknown dtype, sizes that do
 * not match, or offsets that overlap, leave a gap, or leave bytes over.
 */
export function readSafetensors(file: Uint8Array<ArrayBuffer>): Safetensors {
  const headerBytes = headerLength(file);
  const header = parseHeader(file.subarray(8, 8 + headerBytes));
  const data = file.subarray(8 + headerBytes);
  let metadata: Record<string, string> = {};
  const found: { name: string; tensor: TensorEntry }[] = [];
  for (const [name, value] of Object.entries(header)) {
    if (name === "__metadata__") metadata = parseMetadata(value);
    else found.push({ name, tensor: parseEntry(name, value) });
  }
  found.sort((a, b) => a.tensor.start - b.tensor.start || a.tensor.end - b.tensor.end);
  const tensors = new Map<string, SafeTensor>();
  let next = 0;
  for (const { name, tensor } of found) {
    const { dtype, shape, start, end } = tensor;
    if (start !== next) {
      throw broken(
        `tensor "${name}" starts at ${start} where ${next} was due: tensors ${
          start < next ? "overlap" : "leave a gap"
        }`,
      );
    }
    if (end > data.byteLength) {
      throw broken(`tensor "${name}" ends at ${end}, past the data's ${data.byteLength} bytes`);
    }
    tensors.set(name, { dtype, shape, bytes: data.subarray(start, end) });
    next = end;
  }
  if (next !== data.byteLength) throw broken(`${data.byteLength - next} bytes follow the last tensor`);
  return { metadata, tensors };
}

interface TensorEntry {
  dtype: SafetensorsDtype;
  shape: number[];
  start: number;
  end: number;
}

function headerLength(file: Uint8Array): number {
  if (file.byteLength < 8) throw broken(`the file has ${file.byteLength} bytes, fewer than its length field`);
  const length = new DataView(file.buffer, file.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(safetensorsHeaderBytesMax)) {
    throw broken(`its header claims ${length} bytes, more than ${safetensorsHeaderBytesMax}`);
  }
  if (Number(length) > file.byteLength - 8) {
    throw broken(`its header claims ${length} bytes, only ${file.byteLength - 8} follow`);
  }
  return Number(length);
}

function parseHeader(bytes: Uint8Array): object {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch {
    throw broken("its header is no JSON");
  }
  if (bytes[0] !== 0x7b || typeof value !== "object" || value === null) throw broken("its header is no JSON object");
  return value;
}

function parseMetadata(value: unknown): Record<string, string> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw broken("its metadata is no object");
  const entries = Object.entries(value).map(([key, text]): [string, string] => {
    if (typeof text !== "string") throw broken(`its metadata "${key}" is no text`);
    return [key, text];
  });
  return Object.fromEntries(entries);
}

function parseEntry(name: string, value: unknown): TensorEntry {
  const wrong = (what: string) => broken(`tensor "${name.slice(0, 200)}" ${what}`);
  if (typeof value !== "object" || value === null) throw wrong("is no object");
  const { dtype, shape, data_offsets: offsets, ...rest } = value as Record<string, unknown>;
  if (Object.keys(rest).length > 0) throw wrong(`has an unknown field "${Object.keys(rest)[0].slice(0, 80)}"`);
  if (typeof dtype !== "string" || !isDtype(dtype)) {
    throw wrong(`has unknown dtype ${JSON.stringify(dtype)?.slice(0, 80)}`);
  }
  if (!isCounts(shape)) throw wrong("has a malformed shape");
  if (!isCounts(offsets) || offsets.length !== 2 || offsets[0] > offsets[1]) throw wrong("has malformed offsets");
  const problem = sizeProblem(dtype, shape, offsets[1] - offsets[0]);
  if (problem !== undefined) throw wrong(problem);
  return { dtype, shape, start: offsets[0], end: offsets[1] };
}

function isDtype(text: string): text is SafetensorsDtype {
  return Object.hasOwn(safetensorsDtypeBytes, text);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

function sizeProblem(dtype: SafetensorsDtype, shape: readonly number[], byteLength: number): string | undefined {
  const expected = shape.reduce((product, dimension) => product * dimension, safetensorsDtypeBytes[dtype]);
  if (expected === byteLength) return undefined;
  return `of shape [${shape.join(", ")}] and dtype ${dtype} needs ${expected} bytes, got ${byteLength}`;
}

function broken(what: string): CheckpointError {
  return new CheckpointError(`reading safetensors: ${what}`);
}
