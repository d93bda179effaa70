/**
 * Writes tensors, dicts, lists and scalars in the zip format of `torch.save`, so that `torch.load` reads them, with
 * `weights_only` too. Equal values give equal files. Format: torch's `serialization.py`; pickle protocol 2.
 */
import { type SafeTensor, type SafetensorsDtype, safetensorsDtypeBytes } from "../checkpoint/safetensors.ts";
import { WeightsError } from "./error.ts";
import { storageDtypes } from "./torch_storage.ts";
import { joined } from "./pieces.ts";
import { type ZipOptions, zipPieces } from "./zip_write.ts";

/** What can be written; maps become dicts in their order. */
export type TorchValue =
  | null
  | boolean
  | number
  | string
  | SafeTensor
  | readonly TorchValue[]
  | ReadonlyMap<string, TorchValue>;

const storageNames: ReadonlyMap<SafetensorsDtype, string> = new Map(
  [...storageDtypes].map(([name, dtype]) => [dtype, name.slice("torch.".length)]),
);

/**
 * A whole file in pieces. Tensors that view the same bytes share their storage, as tied weights do in torch.
 *
 * @throws {WeightsError} for element types that torch's storages lack.
 */
export function torchFilePieces(value: TorchValue, options: ZipOptions = {}): Generator<Uint8Array<ArrayBuffer>> {
  const writer = new PickleWriter();
  writer.raw(0x80, 2);
  writer.value(value);
  writer.raw(".");
  const entries = new Map([["archive/data.pkl", writer.bytes()]]);
  for (const [key, bytes] of writer.storages) entries.set(`archive/data/${key}`, bytes);
  entries.set("archive/version", new TextEncoder().encode("3\n"));
  return zipPieces(entries, options);
}

/** {@linkcode torchFilePieces} joined. */
export function writeTorchFile(value: TorchValue, options: ZipOptions = {}): Uint8Array<ArrayBuffer> {
  return joined(torchFilePieces(value, options));
}

class PickleWriter {
  /** Bytes by key. */
  readonly storages = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #parts: Uint8Array<ArrayBuffer>[] = [];
  /** Keys of storages by buffer and place in it. */
  readonly #keys = new Map<ArrayBuffer, Map<string, string>>();

  bytes(): Uint8Array<ArrayBuffer> {
    return joined(this.#parts);
  }

  /** Opcodes: numbers are bytes, texts ASCII. */
  raw(...parts: (number | string)[]): void {
    for (const part of parts) {
      this.#parts.push(typeof part === "number" ? Uint8Array.of(part) : new TextEncoder().encode(part));
    }
  }

  value(value: TorchValue): void {
    if (value === null) this.raw("N");
    else if (typeof value === "boolean") this.raw(value ? 0x88 : 0x89);
    else if (typeof value === "number") this.#number(value);
    else if (typeof value === "string") this.#text(value);
    else if (isMap(value)) this.#dict(value);
    else if (isList(value)) this.#list("](", value, "e");
    else this.#tensor(value);
  }

  #number(value: number): void {
    const view = new DataView(new ArrayBuffer(9));
    if (!Number.isSafeInteger(value)) {
      view.setUint8(0, "G".charCodeAt(0));
      view.setFloat64(1, value, false);
      this.#parts.push(new Uint8Array(view.buffer));
    } else if (value >= -(2 ** 31) && value < 2 ** 31) {
      view.setUint8(0, "J".charCodeAt(0));
      view.setInt32(1, value, true);
      this.#parts.push(new Uint8Array(view.buffer, 0, 5));
    } else {
      view.setBigInt64(1, BigInt(value), true);
      this.raw(0x8a, 8);
      this.#parts.push(new Uint8Array(view.buffer, 1));
    }
  }

  #text(value: string): void {
    const encoded = new TextEncoder().encode(value);
    const length = new DataView(new ArrayBuffer(4));
    length.setUint32(0, encoded.byteLength, true);
    this.raw("X");
    this.#parts.push(new Uint8Array(length.buffer), encoded);
  }

  #dict(dict: ReadonlyMap<string, TorchValue>): void {
    this.raw("ccollections\nOrderedDict\n)R(");
    for (const [key, value] of dict) {
      this.#text(key);
      this.value(value);
    }
    this.raw("u");
  }

  #list(opening: "](" | "(", values: readonly TorchValue[], closing: "e" | "t"): void {
    this.raw(opening);
    for (const value of values) this.value(value);
    this.raw(closing);
  }

  #tensor(tensor: SafeTensor): void {
    const { dtype, shape, bytes } = tensor;
    const storage = storageNames.get(dtype);
    if (storage === undefined) throw new WeightsError(`Cannot write a torch file: torch has no storage of ${dtype}`);
    const count = bytes.byteLength / safetensorsDtypeBytes[dtype];
    const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, length) => product * length, 1));
    this.raw("ctorch._utils\n_rebuild_tensor_v2\n((");
    this.#text("storage");
    this.raw(`ctorch\n${storage}\n`);
    this.#text(this.#key(tensor));
    this.#text("cpu");
    this.#number(count);
    this.raw("tQ");
    this.#number(0);
    this.#list("(", shape, "t");
    this.#list("(", strides, "t");
    this.raw(0x89, "ccollections\nOrderedDict\n)RtR");
  }

  #key({ bytes, dtype }: SafeTensor): string {
    const places = this.#keys.get(bytes.buffer) ?? new Map<string, string>();
    this.#keys.set(bytes.buffer, places);
    const place = `${dtype} ${bytes.byteOffset} ${bytes.byteLength}`;
    const key = places.get(place) ?? String(this.storages.size);
    places.set(place, key);
    this.storages.set(key, bytes);
    return key;
  }
}

function isMap(value: object): value is ReadonlyMap<string, TorchValue> {
  return value instanceof Map;
}

function isList(value: object): value is readonly TorchValue[] {
  return Array.isArray(value);
}
