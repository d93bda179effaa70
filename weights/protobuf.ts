/**
 * Protocol buffers, as far as one format needs them: messages written field by field, and read as fields in order. It
 * knows no schema. Format: protobuf.dev/programming-guides/encoding.
 */
import { WeightsError } from "./error.ts";

/** A message being written. Its bytes stay in pieces, so that large fields are not copied at every level. */
export class ProtobufMessage {
  readonly #pieces: Uint8Array<ArrayBuffer>[] = [];
  #byteLength = 0;

  get byteLength(): number {
    return this.#byteLength;
  }

  /** A whole number, or an enumeration's. */
  integer(field: number, value: number): this {
    this.#varint(field * 8);
    this.#varint(value);
    return this;
  }

  float(field: number, value: number): this {
    this.#varint(field * 8 + 5);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#add(bytes);
    return this;
  }

  text(field: number, value: string): this {
    return this.bytes(field, new TextEncoder().encode(value));
  }

  bytes(field: number, value: Uint8Array<ArrayBuffer>): this {
    this.#varint(field * 8 + 2);
    this.#varint(value.byteLength);
    this.#add(value);
    return this;
  }

  /** Whole numbers in one field. */
  integers(field: number, values: readonly number[]): this {
    const packed = new ProtobufMessage();
    for (const value of values) packed.#varint(value);
    return this.message(field, packed);
  }

  message(field: number, value: ProtobufMessage): this {
    this.#varint(field * 8 + 2);
    this.#varint(value.byteLength);
    for (const piece of value.#pieces) this.#add(piece);
    return this;
  }

  /** The whole message, in order. */
  get pieces(): readonly Uint8Array<ArrayBuffer>[] {
    return this.#pieces;
  }

  #varint(value: number): void {
    const bytes: number[] = [];
    let rest = value;
    for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push(rest % 128 + 128);
    bytes.push(rest);
    this.#add(Uint8Array.from(bytes));
  }

  #add(piece: Uint8Array<ArrayBuffer>): void {
    this.#pieces.push(piece);
    this.#byteLength += piece.byteLength;
  }
}

/** One field of a message that was read. */
export interface ProtobufField {
  readonly field: number;
  /** A whole number; larger ones than a double holds exactly are rounded. */
  readonly integer?: number;
  /** Text, bytes, a message or packed numbers. */
  readonly bytes?: Uint8Array<ArrayBuffer>;
}

/**
 * The fields of a message in order; bytes are views.
 *
 * @throws {WeightsError} for a truncated message and for groups, which nothing writes any more.
 */
export function* readProtobuf(message: Uint8Array<ArrayBuffer>): Generator<ProtobufField> {
  let at = 0;
  const varint = () => {
    const read = readVarint(message, at);
    at = read.next;
    return read.value;
  };
  while (at < message.byteLength) {
    const tag = varint();
    const [field, kind] = [Math.floor(tag / 8), tag % 8];
    if (kind === 0) {
      yield { field, integer: varint() };
      continue;
    }
    if (kind !== 1 && kind !== 2 && kind !== 5) throw broken(`field ${field} is of kind ${kind}`);
    const length = kind === 2 ? varint() : kind === 1 ? 8 : 4;
    if (length > message.byteLength - at) throw broken(`field ${field} of ${length} bytes ends past its message`);
    yield { field, bytes: message.subarray(at, at + length) };
    at += length;
  }
}

/** Whole numbers that lie in one field. */
export function readPacked(bytes: Uint8Array<ArrayBuffer>): number[] {
  const values: number[] = [];
  for (let at = 0; at < bytes.byteLength;) {
    const { value, next } = readVarint(bytes, at);
    values.push(value);
    at = next;
  }
  return values;
}

function readVarint(bytes: Uint8Array<ArrayBuffer>, start: number): { value: number; next: number } {
  let value = 0, scale = 1;
  for (let at = start; at < start + 10; at++, scale *= 128) {
    if (at >= bytes.byteLength) throw broken("it is truncated");
    value += (bytes[at] & 127) * scale;
    if (bytes[at] < 128) return { value, next: at + 1 };
  }
  throw broken(`the number at byte ${start} has no end`);
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the ONNX file: ${what}`);
}
