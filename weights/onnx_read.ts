/**
 * Reads the weights of an ONNX file by their names; the graph that uses them is not looked at. Format: onnx.proto3.
 */
import { type SafeTensor, type SafetensorsDtype, safetensorsDtypeBytes } from "../checkpoint/safetensors.ts";
import { WeightsError } from "./error.ts";
import { readPacked, readProtobuf } from "./protobuf.ts";

/** Element types by `TensorProto.DataType`. */
const dtypes: ReadonlyMap<number, SafetensorsDtype> = new Map([
  [1, "F32"],
  [2, "U8"],
  [3, "I8"],
  [5, "I16"],
  [6, "I32"],
  [7, "I64"],
  [9, "BOOL"],
  [10, "F16"],
  [11, "F64"],
  [16, "BF16"],
]);

/** Whether the bytes start as an ONNX file does: with the version of its format. */
export function isOnnxFile(file: Uint8Array<ArrayBuffer>): boolean {
  // A safetensors file's header begins at its ninth byte.
  return file[0] === 8 && file[8] !== 0x7b;
}

/**
 * The initialisers of a file by name; views of it.
 *
 * @throws {WeightsError} for a broken file, element types that weights do not have, and data kept in other files.
 */
export function readOnnx(file: Uint8Array<ArrayBuffer>): Map<string, SafeTensor> {
  const tensors = new Map<string, SafeTensor>();
  for (const { field, bytes: graph } of readProtobuf(file)) {
    if (field !== 7 || graph === undefined) continue;
    for (const { field, bytes: tensor } of readProtobuf(graph)) {
      if (field !== 5 || tensor === undefined) continue;
      const { name, value } = readTensor(tensor);
      if (tensors.has(name)) throw broken(`tensor "${name}" is there twice`);
      tensors.set(name, value);
    }
  }
  return tensors;
}

function readTensor(message: Uint8Array<ArrayBuffer>): { name: string; value: SafeTensor } {
  let name = "", type = 0, isExternal = false;
  const shape: number[] = [];
  let data: Uint8Array<ArrayBuffer> | undefined;
  for (const { field, integer, bytes } of readProtobuf(message)) {
    if (field === 1) shape.push(...integer === undefined ? readPacked(bytes ?? new Uint8Array()) : [integer]);
    if (field === 2) type = integer ?? 0;
    if (field === 8 && bytes !== undefined) name = new TextDecoder().decode(bytes);
    // Raw bytes; or floats in a field of their own, which lie in the same order.
    if (field === 9 || (field === 4 && type <= 1)) data = bytes;
    if (field === 13 || (field === 14 && integer === 1)) isExternal = true;
    if (shape.length > 64) throw broken("a tensor has more than 64 dimensions");
  }
  const wrong = (what: string) => broken(`tensor "${name.slice(0, 200)}" ${what}`);
  if (isExternal) throw wrong("lies in another file");
  const dtype = dtypes.get(type);
  if (dtype === undefined) throw wrong(`is of element type ${type}`);
  const expected = shape.reduce((product, length) => product * length, safetensorsDtypeBytes[dtype]);
  const bytes = data ?? new Uint8Array();
  if (bytes.byteLength !== expected) {
    throw wrong(`of shape [${shape.join(", ")}] must have ${expected} bytes, found ${bytes.byteLength}`);
  }
  return { name, value: { dtype, shape, bytes } };
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the ONNX file: ${what}`);
}
