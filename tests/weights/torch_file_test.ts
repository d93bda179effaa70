import { assert, assertEquals, assertThrows } from "@std/assert";
import { f32Of, type SafeTensor } from "../../checkpoint/safetensors.ts";
import { WeightsError } from "../../weights/error.ts";
import { readTorchFile } from "../../weights/torch_file.ts";
import { readZip } from "../../weights/zip.ts";
import { writeZip } from "../../weights/zip_write.ts";
import { bytesOf, draws, goldenFile } from "./bytes.ts";

/** One dict of a file. */
function dict(file: Uint8Array<ArrayBuffer>, path: string): ReadonlyMap<string, SafeTensor> {
  const found = readTorchFile(file).dicts.get(path);
  assert(found, `the file must hold ${path}`);
  return found;
}

/** A zip with this pickle and storages, as torch lays it out. */
function archive(
  pickle: (string | number)[],
  storages: Record<string, Uint8Array<ArrayBuffer>> = {},
  more: Record<string, Uint8Array<ArrayBuffer>> = {},
): Uint8Array<ArrayBuffer> {
  const data = Object.entries(storages).map(([key, bytes]) => [`a/data/${key}`, bytes] as const);
  const others = Object.entries(more).map(([name, bytes]) => [`a/${name}`, bytes] as const);
  return writeZip(new Map([["a/data.pkl", bytesOf(0x80, 2, ...pickle)], ...data, ...others]));
}

const text = (value: string) => ["X", value.length, 0, 0, 0, value];

/** A small tensor on storage `key`; shape and strides are tuples of bytes. */
function tensor(
  { key = "0", type = "FloatStorage", count = 4, offset = 0, shape = [4], strides = [1] }: {
    key?: string;
    type?: string;
    count?: number;
    offset?: number;
    shape?: number[];
    strides?: number[];
  },
): (string | number)[] {
  const tuple = (values: number[]) => ["(", ...values.flatMap((value) => ["K", value]), "t"];
  const storage = ["(", ...text("storage"), `ctorch\n${type}\n`, ...text(key), ...text("cpu"), "K", count, "tQ"];
  const call = ["ctorch._utils\n_rebuild_tensor_v2\n(", ...storage, "K", offset];
  return [...call, ...tuple(shape), ...tuple(strides), 0x89, "ccollections\nOrderedDict\n)R", "tR"];
}

/** A dict of tensors a, b, … */
const state = (...tensors: (string | number)[][]) => [
  "}",
  ...tensors.flatMap((program, index) => [...text(String.fromCharCode(97 + index)), ...program, "s"]),
  ".",
];

const sixteen = new Uint8Array(new Float32Array([1, 2, 3, 4]).buffer);

/** Elements of any type as numbers. */
function numbers({ dtype, bytes }: SafeTensor): number[] {
  const { buffer } = bytes.slice();
  if (dtype === "F64") return [...new Float64Array(buffer)];
  if (dtype === "F32") return [...new Float32Array(buffer)];
  if (dtype === "F16") return [...new Float16Array(buffer)];
  if (dtype === "I64") return [...new BigInt64Array(buffer)].map(Number);
  if (dtype === "I32") return [...new Int32Array(buffer)];
  if (dtype === "I16") return [...new Int16Array(buffer)];
  if (dtype === "BF16") {
    return [...new Uint16Array(buffer)].map((half) => new Float32Array(Uint32Array.of(half << 16).buffer)[0]);
  }
  return [...new Uint8Array(buffer)];
}

for (const name of ["plain_zip.pth", "plain_stream.pth"]) {
  Deno.test(`every kind of tensor that torch wrote into ${name} is read`, async () => {
    const tensors = dict(await goldenFile(name), "state_dict");
    const dtypes = { float64: "F64", float32: "F32", float16: "F16", bfloat16: "BF16", int64: "I64", int32: "I32" };
    for (const [key, dtype] of Object.entries({ ...dtypes, int16: "I16", int8: "I8", uint8: "U8", bool: "BOOL" })) {
      const found = tensors.get(key);
      assert(found, key);
      assertEquals([found.dtype, found.shape], [dtype, [2, 3]], key);
      assertEquals(numbers(found), key === "bool" ? [0, 1, 1, 1, 1, 1] : [0, 1, 2, 3, 4, 5], key);
    }
    const floats = (
      key: string,
    ) => [...f32Of(tensors.get(key) ?? { dtype: "F32", shape: [], bytes: new Uint8Array() })];
    assert(tensors.get("tied.a") === tensors.get("tied.b"), "one tensor under two names is one");
    assertEquals([floats("tied.a"), floats("first"), floats("second")], [[0, 1, 2, 3], [0, 1, 2, 3], [
      4,
      5,
      6,
      7,
      8,
      9,
    ]]);
    assertEquals([tensors.get("transposed")?.shape, floats("transposed")], [[3, 2], [0, 3, 1, 4, 2, 5]]);
    assertEquals(floats("channels_last"), Array.from({ length: 16 }, (_, i) => i));
    assertEquals([tensors.get("scalar")?.shape, tensors.get("empty")?.shape], [[], [0, 5]]);
    assertEquals(floats("parameter"), [0.5, -1.5]);
    assertEquals(tensors.size, 19);
  });
}

Deno.test("a VISSL checkpoint in the stream format gives each of its dicts of tensors", async () => {
  const { dicts } = readTorchFile(await goldenFile("regnet_vissl.torch"));
  const model = "classy_state_dict.base_model.model";
  assertEquals([...dicts.keys()].sort(), [
    `${model}.heads`,
    `${model}.trunk`,
    "classy_state_dict.optimizer.optim.state.0",
  ]);
  assertEquals(dicts.get(`${model}.heads`)?.get("0.clf.0.bias")?.shape, [3]);
});

Deno.test("a model saved whole, a program and a foreign global are refused by name", () => {
  const refused = (file: Uint8Array<ArrayBuffer>, part: string) =>
    assertThrows(() => readTorchFile(file), WeightsError, part);
  refused(archive(["ctorchvision.models.regnet\nRegNet\n)R."]), '"torchvision.models.regnet.RegNet"');
  refused(
    archive(["cposix\nsystem\n", ...text("true"), 0x85, "R."]),
    "nothing was executed; save the model's state_dict()",
  );
  refused(archive(state(tensor({ type: "ComplexFloatStorage" }))), '"torch.ComplexFloatStorage"');
  refused(archive(["N."], {}, { "constants.pkl": bytesOf(0x80) }), "TorchScript");
  refused(archive(["N."], {}, { byteorder: bytesOf("big") }), "not little-endian");
  refused(writeZip(new Map([["a", bytesOf("b")]])), "no data.pkl");
  refused(bytesOf("what?"), "no file that torch.save wrote");
  refused(bytesOf(0x80, 2, "N."), "no file that torch.save wrote");
});

Deno.test("tensors that leave their storage or share elements are refused; the same one twice is not", () => {
  const refused = (
    tensors: (string | number)[][],
    part: string,
    storages: Record<string, Uint8Array<ArrayBuffer>> = { "0": sixteen },
  ) => assertThrows(() => readTorchFile(archive(state(...tensors), storages)), WeightsError, part);
  refused([tensor({ shape: [5] })], "ends at element 5, past");
  refused([tensor({ offset: 1 })], "ends at element 5, past");
  refused([tensor({ shape: [2], strides: [9] })], "ends at element 10, past");
  refused([tensor({ shape: [200, 200], strides: [0, 0] })], "overlaps itself");
  refused([tensor({ shape: [2, 2], strides: [1, 1] })], "overlaps itself");
  refused([tensor({ shape: [2], strides: [] })], "has no shape");
  refused([tensor({ shape: [3] }), tensor({ offset: 2, shape: [2] })], "overlap in storage");
  refused(
    [tensor({ shape: [2, 2], strides: [2, 1] }), tensor({ shape: [2, 2], strides: [1, 2] })],
    "overlap in storage",
  );
  refused([tensor({}), tensor({ type: "IntStorage" })], "used as two different ones");
  refused([tensor({ count: 5 })], "must have 20 bytes, found 16");
  refused([tensor({ key: "1" })], "lacks data/1");
  refused([tensor({ key: "../x" })], "lacks data/../x");
  const tied = dict(archive(state(tensor({}), tensor({})), { "0": sixteen }), "");
  assert(tied.get("a") === tied.get("b"));
  const halves = dict(archive(state(tensor({ shape: [2] }), tensor({ offset: 2, shape: [2] })), { "0": sixteen }), "");
  assertEquals([...f32Of(halves.get("b") ?? { dtype: "F32", shape: [], bytes: sixteen })], [3, 4]);
});

Deno.test("a pickle that refers to itself or nests without end is walked once", () => {
  const circle = archive(["]q", 0, "h", 0, "a", ...state(tensor({})).slice(0, -1), "a."], { "0": sixteen });
  assertEquals([...readTorchFile(circle).dicts.keys()], ["1"]);
  // Each list holds the one before it twice: 2^40 paths to the first.
  const twice = Array.from({ length: 40 }, (_, i) => ["q", i, "0", "]", "h", i, "a", "h", i, "a"]).flat();
  assertEquals(readTorchFile(archive(["]", ...twice, "."])).dicts.size, 0);
  const deep = archive(["]".repeat(200_000), "a".repeat(199_999), "."]);
  assertEquals(readTorchFile(deep).dicts.size, 0);
});

/** Reads a file that may be broken; anything but a {@linkcode WeightsError} fails the test. */
function tryRead(file: Uint8Array<ArrayBuffer>): boolean {
  try {
    readTorchFile(file);
    return true;
  } catch (error) {
    if (!(error instanceof WeightsError)) throw error;
    return false;
  }
}

for (const name of ["plain_zip.pth", "plain_stream.pth"]) {
  Deno.test(`every prefix of ${name} is refused`, async () => {
    const file = await goldenFile(name);
    for (let end = 0; end < file.byteLength; end++) assertEquals(tryRead(file.slice(0, end)), false, `${end} bytes`);
    assert(tryRead(file));
  });

  Deno.test(`${name} with changed bytes is read or refused, and never crashes the reader`, async () => {
    const file = await goldenFile(name);
    const draw = draws(1);
    const next = () => draw.next().value;
    for (let trial = 0; trial < 3_000; trial++) {
      const broken = file.slice();
      for (let change = next() % 4; change >= 0; change--) broken[next() % broken.byteLength] = next() % 256;
      tryRead(broken);
    }
  });
}

Deno.test("a zip whose checksums are right and whose pickle is changed is read or refused", async () => {
  const entries = readZip(await goldenFile("plain_zip.pth"));
  const pickle = entries.get("plain_zip/data.pkl") ?? new Uint8Array();
  const draw = draws(2);
  const next = () => draw.next().value;
  let refused = 0;
  for (let trial = 0; trial < 3_000; trial++) {
    const broken = pickle.slice();
    for (let change = next() % 3; change >= 0; change--) broken[next() % broken.byteLength] = next() % 256;
    if (!tryRead(writeZip(new Map([...entries, ["plain_zip/data.pkl", broken]])))) refused++;
  }
  assert(refused > 1_000, `${refused} of 3000 were refused`);
});
