/**
 * Tensors on the wire: a dtype, a shape and raw little-endian bytes, which msgpack carries as `bin` without conversion.
 * This file knows no GPU tensor and no arithmetic.
 */
import { z } from "zod";
import { WireError } from "./error.ts";

/** Element types that travel. */
export type WireDtype = "f32" | "f16" | "u8" | "u32" | "i32";

/** Bytes per element of each dtype. */
export const wireDtypeBytes: Readonly<Record<WireDtype, number>> = { f32: 4, f16: 2, u8: 1, u32: 4, i32: 4 };

/** Raw bytes over plain (unshared) memory, checked by instance only, never copied. */
export const bytesSchema: z.ZodCustom<Uint8Array<ArrayBuffer>> = z.custom<Uint8Array<ArrayBuffer>>(
  (value) => value instanceof Uint8Array && value.buffer instanceof ArrayBuffer,
  "must be bytes",
);

/** A tensor as it travels: little-endian elements, row-major, last dimension fastest. */
export interface WireTensor {
  dtype: WireDtype;
  shape: number[];
  bytes: Uint8Array<ArrayBuffer>;
}

/** Schema of {@linkcode WireTensor}; refuses a byte length that does not match dtype and shape. */
export const wireTensor: z.ZodType<WireTensor> = z.strictObject({
  dtype: z.enum(["f32", "f16", "u8", "u32", "i32"]),
  shape: z.array(z.int().nonnegative()).max(8),
  bytes: bytesSchema,
}).refine((tensor) => tensor.bytes.byteLength === elementCount(tensor.shape) * wireDtypeBytes[tensor.dtype], {
  error: "byte length must match dtype and shape",
});

/** Typed arrays that {@linkcode toWire} takes; a `Uint16Array` holds f16 bit patterns. */
export type WireSource =
  | Float32Array<ArrayBuffer>
  | Uint16Array<ArrayBuffer>
  | Uint8Array<ArrayBuffer>
  | Uint32Array<ArrayBuffer>
  | Int32Array<ArrayBuffer>;

/**
 * A view (no copy) of `array` as a {@linkcode WireTensor}; `shape` defaults to `[array.length]`.
 *
 * @throws {RangeError} when the shape's element count is not the array's length.
 */
export function toWire(array: WireSource, shape: readonly number[] = [array.length]): WireTensor {
  if (elementCount(shape) !== array.length) {
    throw new RangeError(
      `tensor of shape [${shape.join(", ")}] needs ${elementCount(shape)} elements, got ${array.length}`,
    );
  }
  const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
  return { dtype: dtypeOf(array), shape: [...shape], bytes };
}

/** The elements of an f32 tensor: a view where the bytes are 4-aligned, else a copy. */
export function f32FromWire(tensor: WireTensor): Float32Array<ArrayBuffer> {
  const bytes = checkedBytes(tensor, "f32");
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** The elements of a u32 tensor: a view where the bytes are 4-aligned, else a copy. */
export function u32FromWire(tensor: WireTensor): Uint32Array<ArrayBuffer> {
  const bytes = checkedBytes(tensor, "u32");
  return new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** The elements of an i32 tensor: a view where the bytes are 4-aligned, else a copy. */
export function i32FromWire(tensor: WireTensor): Int32Array<ArrayBuffer> {
  const bytes = checkedBytes(tensor, "i32");
  return new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
}

/** The elements of a u8 tensor, always a view. */
export function u8FromWire(tensor: WireTensor): Uint8Array<ArrayBuffer> {
  return checkedBytes(tensor, "u8");
}

/** The bit patterns of an f16 tensor: a view where the bytes are 2-aligned, else a copy. */
export function f16BitsFromWire(tensor: WireTensor): Uint16Array<ArrayBuffer> {
  const bytes = checkedBytes(tensor, "f16");
  return new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);
}

/** Product of the dimensions; 1 for a scalar's empty shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

function checkedBytes(tensor: WireTensor, dtype: WireDtype): Uint8Array<ArrayBuffer> {
  if (tensor.dtype !== dtype) throw new WireError(`reading a tensor as ${dtype}: its dtype is ${tensor.dtype}`);
  const size = wireDtypeBytes[dtype];
  const expected = elementCount(tensor.shape) * size;
  if (tensor.bytes.byteLength !== expected) {
    const shape = tensor.shape.join(", ");
    throw new WireError(`${dtype} tensor of shape [${shape}] needs ${expected} bytes, got ${tensor.bytes.byteLength}`);
  }
  // msgpack's `bin` starts at any offset, typed arrays only at multiples of their element size.
  return tensor.bytes.byteOffset % size === 0 ? tensor.bytes : new Uint8Array(tensor.bytes);
}

function dtypeOf(array: WireSource): WireDtype {
  if (array instanceof Float32Array) return "f32";
  if (array instanceof Uint16Array) return "f16";
  if (array instanceof Uint32Array) return "u32";
  if (array instanceof Int32Array) return "i32";
  return "u8";
}
