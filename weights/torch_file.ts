/**
 * Reads what `torch.save` wrote, `.pth`, `.pt`, `.bin` or `.torch`, in the zip format and in the stream format before
 * it, without executing anything: tensors, dicts, lists and scalars. It knows no network and no names of weights.
 * Formats: torch's `serialization.py`.
 */
import type { SafeTensor } from "../checkpoint/safetensors.ts";
import { WeightsError } from "./error.ts";
import { PickleGlobal, type PickleGrammar, PickleObject, type PickleValue, readPickle } from "./pickle.ts";
import { storageDtypes, Storages } from "./torch_storage.ts";
import { readZip } from "./zip.ts";

/** The dicts of tensors in a file. */
export interface TorchFile {
  /** Tensors by name, by the place of their dict: `""` for the whole file, else e.g. `state_dict` or `model.trunk`. */
  readonly dicts: ReadonlyMap<string, ReadonlyMap<string, SafeTensor>>;
}

const STREAM_MAGIC = 0x1950a86a20f9469cfc6cn;
const STREAM_VERSION = 1001;

/** Whether the bytes start as one of the two formats does. */
export function isTorchFile(file: Uint8Array<ArrayBuffer>): boolean {
  // A safetensors file starts with the length of its header, whose lowest byte may be anything, then with that header.
  const isSafetensors = file[8] === 0x7b && file.subarray(4, 8).every((byte) => byte === 0);
  return !isSafetensors && (isZip(file) || file[0] === 0x80);
}

function isZip(file: Uint8Array<ArrayBuffer>): boolean {
  return file[0] === 0x50 && file[1] === 0x4b;
}

/**
 * Reads a whole file; tensors that lie in it without gaps are views of it.
 *
 * @throws {WeightsError} for a file that is broken, big-endian or a program, any global or opcode that is not plain data,
 * tensors larger than their storage, and tensors that overlap unless they are the same one.
 */
export function readTorchFile(file: Uint8Array<ArrayBuffer>): TorchFile {
  const { value, storages } = isZip(file) ? readArchive(file) : readStream(file);
  storages.check();
  return { dicts: tensorDicts(value, storages) };
}

interface Contents {
  readonly value: PickleValue;
  readonly storages: Storages;
}

function readArchive(file: Uint8Array<ArrayBuffer>): Contents {
  const entries = readZip(file);
  const pickle = [...entries.keys()].find((name) => /^[^/]*\/data\.pkl$/.test(name));
  if (pickle === undefined) throw broken("the archive holds no data.pkl");
  const root = pickle.slice(0, -"data.pkl".length);
  if (entries.has(`${root}constants.pkl`)) {
    throw broken("it is a TorchScript program; save the model's state_dict() instead");
  }
  const order = entries.get(`${root}byteorder`);
  if (order !== undefined && new TextDecoder().decode(order) !== "little") throw broken("it is not little-endian");
  const storages = new Storages();
  const { value } = readPickle(entries.get(pickle) ?? new Uint8Array(), grammarOf(storages));
  for (const key of storages.keys()) {
    const bytes = entries.get(`${root}data/${key}`);
    if (bytes === undefined) throw broken(`the archive lacks data/${key}, which its tensors lie in`);
    storages.fill(key, bytes);
  }
  return { value, storages };
}

function readStream(file: Uint8Array<ArrayBuffer>): Contents {
  let at = 0;
  const plain: PickleGrammar = { constructors: {}, names: new Set() };
  const next = (grammar: PickleGrammar) => {
    const { value, byteLength } = readPickle(file.subarray(at), grammar);
    at += byteLength;
    return value;
  };
  if (file[0] !== 0x80 || next(plain) !== STREAM_MAGIC) throw broken("it is no file that torch.save wrote");
  const version = next(plain);
  if (version !== STREAM_VERSION) throw broken(`its version is ${String(version)}; ${STREAM_VERSION} is read`);
  const system = next(plain);
  if (!(system instanceof Map) || system.get("little_endian") !== true) throw broken("it is not little-endian");
  const storages = new Storages();
  const value = next(grammarOf(storages));
  const keys = next(plain);
  if (!Array.isArray(keys)) throw broken("its list of storages is missing");
  for (const key of keys) {
    if (typeof key !== "string" || file.byteLength - at < 8) throw broken("its storages are truncated");
    const count = new DataView(file.buffer, file.byteOffset + at, 8).getBigInt64(0, true);
    const byteLength = storages.byteLength(key);
    if (count !== BigInt(storages.count(key))) {
      throw broken(`storage "${key}" has a length that differs from its tensors'`);
    }
    if (byteLength > file.byteLength - at - 8) throw broken(`storage "${key}" ends past the file`);
    storages.fill(key, file.subarray(at + 8, at + 8 + byteLength));
    at += 8 + byteLength;
  }
  if (at !== file.byteLength) throw broken(`${file.byteLength - at} bytes follow the last storage`);
  return { value, storages };
}

/** The few names that plain tensors need. */
function grammarOf(storages: Storages): PickleGrammar {
  return {
    constructors: {
      "collections.OrderedDict": orderedDict,
      "torch._utils._rebuild_tensor_v2": ([storage, offset, shape, strides]) =>
        storages.tensor(storage, { offset, shape, strides }),
      "torch._utils._rebuild_parameter": ([data]) => {
        if (!(data instanceof PickleObject)) throw broken("a parameter is no tensor");
        return data;
      },
    },
    names: new Set(storageDtypes.keys()),
    persistent: (id) => {
      const [kind, type, key, , count, view = null] = Array.isArray(id) ? id : [];
      if (kind !== "storage" || !(type instanceof PickleGlobal) || typeof key !== "string") {
        throw broken(`it refers to data of kind "${String(kind).slice(0, 80)}"; only storages are read`);
      }
      if (view !== null) throw broken(`storage "${key}" is a view of another`);
      return storages.storage(key, { type: type.name, count });
    },
    remedy: "save the model's state_dict() alone",
  };
}

function orderedDict(args: readonly PickleValue[]): PickleValue {
  const dict = new Map<PickleValue, PickleValue>();
  if (args.length === 0) return dict;
  const [items] = args;
  for (const item of Array.isArray(items) ? items : [null]) {
    if (!Array.isArray(item) || item.length !== 2) throw broken("a dict is made of what are no pairs");
    dict.set(item[0], item[1]);
  }
  return dict;
}

/** Every dict that holds tensors under names, nearest to the top first. */
function tensorDicts(root: PickleValue, storages: Storages): Map<string, Map<string, SafeTensor>> {
  const dicts = new Map<string, Map<string, SafeTensor>>();
  const queue: { path: string; value: PickleValue }[] = [{ path: "", value: root }];
  // A pickle may refer to one list from many places, or to itself.
  const seen = new Set<PickleValue>();
  for (let place = 0; place < queue.length; place++) {
    const { path, value } = queue[place];
    if (!(value instanceof Map || Array.isArray(value)) || seen.has(value)) continue;
    seen.add(value);
    const tensors = new Map<string, SafeTensor>();
    for (const [key, item] of value.entries()) {
      if (item instanceof PickleObject) {
        if (typeof key === "string" && storages.isTensor(item)) tensors.set(key, storages.read(item));
      } else if ((typeof key === "string" || typeof key === "number") && typeof item === "object") {
        // Longer paths name nothing that a user would type.
        if (path.length < 1_000) queue.push({ path: path === "" ? String(key) : `${path}.${key}`, value: item });
      }
    }
    if (tensors.size > 0) dicts.set(path, tensors);
  }
  return dicts;
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the torch file: ${what}`);
}
