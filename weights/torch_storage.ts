/**
 * The memory behind a torch file's tensors: storages of one element type, and tensors that are strided windows on them.
 * It refuses windows that leave their storage or share elements, and knows neither files nor pickles' opcodes.
 */
import { type SafeTensor, type SafetensorsDtype, safetensorsDtypeBytes } from "../checkpoint/safetensors.ts";
import { WeightsError } from "./error.ts";
import { PickleObject, type PickleValue } from "./pickle.ts";

/** Storage types that are read, by torch's name. */
export const storageDtypes: ReadonlyMap<string, SafetensorsDtype> = new Map([
  ["torch.DoubleStorage", "F64"],
  ["torch.FloatStorage", "F32"],
  ["torch.HalfStorage", "F16"],
  ["torch.BFloat16Storage", "BF16"],
  ["torch.LongStorage", "I64"],
  ["torch.IntStorage", "I32"],
  ["torch.ShortStorage", "I16"],
  ["torch.CharStorage", "I8"],
  ["torch.ByteStorage", "U8"],
  ["torch.BoolStorage", "BOOL"],
]);

const DIMENSIONS_MAX = 64;

class Storage extends PickleObject {
  bytes: Uint8Array<ArrayBuffer> | undefined;

  constructor(readonly key: string, readonly dtype: SafetensorsDtype, readonly count: number) {
    super();
  }
}

/** A strided window on a storage; the same window twice is one object. */
export class TorchTensor extends PickleObject {
  /** Row-major elements, once asked for. */
  read: SafeTensor | undefined;

  constructor(
    readonly storage: Storage,
    readonly offset: number,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
  ) {
    super();
  }
}

/** All storages and tensors of a file. */
export class Storages {
  readonly #storages = new Map<string, Storage>();
  /** By storage, offset, shape and strides. */
  readonly #tensors = new Map<string, TorchTensor>();

  keys(): string[] {
    return [...this.#storages.keys()];
  }

  /** The storage of this key, declared anew or again. */
  storage(key: string, { type, count }: { type: string; count: PickleValue }): PickleObject {
    const dtype = storageDtypes.get(type);
    if (dtype === undefined) throw broken(`storage "${key}" is of type "${type}"`);
    if (!isCount(count)) throw broken(`storage "${key}" has no length`);
    const known = this.#storages.get(key);
    if (known !== undefined) {
      if (known.dtype !== dtype || known.count !== count) {
        throw broken(`storage "${key}" is used as two different ones`);
      }
      return known;
    }
    const storage = new Storage(key, dtype, count);
    this.#storages.set(key, storage);
    return storage;
  }

  /** Elements of a declared storage. */
  count(key: string): number {
    const storage = this.#storages.get(key);
    if (storage === undefined) throw broken(`storage "${key}" belongs to no tensor`);
    return storage.count;
  }

  byteLength(key: string): number {
    const count = this.count(key);
    return count * safetensorsDtypeBytes[this.#storages.get(key)?.dtype ?? "U8"];
  }

  /** Gives a storage its bytes, which are not copied. */
  fill(key: string, bytes: Uint8Array<ArrayBuffer>): void {
    const expected = this.byteLength(key);
    if (bytes.byteLength !== expected) {
      throw broken(`storage "${key}" must have ${expected} bytes, found ${bytes.byteLength}`);
    }
    const storage = this.#storages.get(key);
    if (storage?.bytes !== undefined) throw broken(`storage "${key}" is there twice`);
    if (storage !== undefined) storage.bytes = bytes;
  }

  /** A window on a storage that was declared before. */
  tensor(
    storage: PickleValue,
    window: { offset: PickleValue; shape: PickleValue; strides: PickleValue },
  ): TorchTensor {
    const { offset, shape, strides } = window;
    if (!(storage instanceof Storage)) throw broken("a tensor lies in no storage");
    if (!isCount(offset) || !isCounts(shape) || !isCounts(strides) || shape.length !== strides.length) {
      throw broken(`a tensor of storage "${storage.key}" has no shape`);
    }
    const id = JSON.stringify([storage.key, offset, shape, strides]);
    const known = this.#tensors.get(id);
    if (known !== undefined) return known;
    const tensor = new TorchTensor(storage, offset, shape, strides);
    if (endOf(tensor) > storage.count) {
      throw broken(
        `a tensor of shape [${shape.join(", ")}] ends at element ${endOf(tensor)}, past storage "${storage.key}" of ` +
          `${storage.count}`,
      );
    }
    if (sharesElements(tensor)) {
      throw broken(`a tensor of shape [${shape.join(", ")}] and strides [${strides.join(", ")}] overlaps itself`);
    }
    this.#tensors.set(id, tensor);
    return tensor;
  }

  isTensor(value: PickleObject): value is TorchTensor {
    return value instanceof TorchTensor;
  }

  /**
   * Checks that every storage is there and that different tensors share no element; one tensor under two names is fine.
   *
   * @throws {WeightsError}
   */
  check(): void {
    for (const { key, bytes } of this.#storages.values()) {
      if (bytes === undefined) throw broken(`storage "${key}" is missing`);
    }
    const sorted = [...this.#tensors.values()].filter((tensor) => sizeOf(tensor) > 0).sort((a, b) =>
      a.storage.key < b.storage.key ? -1 : a.storage.key > b.storage.key ? 1 : a.offset - b.offset
    );
    for (let i = 1; i < sorted.length; i++) {
      const [before, tensor] = [sorted[i - 1], sorted[i]];
      if (before.storage !== tensor.storage || endOf(before) <= tensor.offset) continue;
      throw broken(
        `two tensors, of shapes [${before.shape.join(", ")}] and [${tensor.shape.join(", ")}], overlap in storage ` +
          `"${tensor.storage.key}"; save clones of them`,
      );
    }
  }

  /** A tensor's elements row by row; a view of the file where they lie so. */
  read(tensor: TorchTensor): SafeTensor {
    tensor.read ??= elementsOf(tensor);
    return tensor.read;
  }
}

function elementsOf(tensor: TorchTensor): SafeTensor {
  const { storage: { key, dtype, bytes }, shape, strides, offset } = tensor;
  if (bytes === undefined) throw broken(`storage "${key}" is missing`);
  const width = safetensorsDtypeBytes[dtype];
  const size = sizeOf(tensor);
  if (isRowMajor(tensor)) return { dtype, shape, bytes: bytes.subarray(offset * width, (offset + size) * width) };
  const copy = new Uint8Array(size * width);
  const index = shape.map(() => 0);
  for (let to = 0, from = offset; to < size; to++) {
    for (let byte = 0; byte < width; byte++) copy[to * width + byte] = bytes[from * width + byte];
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis];
      if (++index[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      index[axis] = 0;
    }
  }
  return { dtype, shape, bytes: copy };
}

function sizeOf({ shape }: TorchTensor): number {
  return shape.includes(0) ? 0 : shape.reduce((product, length) => product * length, 1);
}

/** One past the last element. */
function endOf(tensor: TorchTensor): number {
  const { offset, shape, strides } = tensor;
  if (sizeOf(tensor) === 0) return offset;
  return shape.reduce((end, length, axis) => end + (length - 1) * strides[axis], offset + 1);
}

function isRowMajor({ shape, strides }: TorchTensor): boolean {
  let due = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    if (shape[axis] !== 1 && strides[axis] !== due) return false;
    due *= shape[axis];
  }
  return true;
}

/** Whether two indices may mean one element: a stride that does not step over all that smaller strides reach. */
function sharesElements(tensor: TorchTensor): boolean {
  const { shape, strides } = tensor;
  if (sizeOf(tensor) === 0) return false;
  const axes = shape.map((length, axis) => ({ length, stride: strides[axis] })).filter(({ length }) => length > 1);
  axes.sort((a, b) => a.stride - b.stride);
  let reach = 0;
  for (const { length, stride } of axes) {
    if (stride <= reach) return true;
    reach += (length - 1) * stride;
  }
  return false;
}

function isCount(value: PickleValue): value is number {
  return Number.isSafeInteger(value) && Number(value) >= 0;
}

function isCounts(value: PickleValue): value is number[] {
  return Array.isArray(value) && value.length <= DIMENSIONS_MAX && value.every(isCount);
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the torch file: ${what}`);
}
