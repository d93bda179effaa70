/** ONNX files by the numbers that onnxruntime computes from them, and by what is read back. */
import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { InferenceSession, Tensor } from "onnxruntime-node";
import fc from "fast-check";
import { f32Of, f32Tensor, type SafeTensor } from "../../checkpoint/safetensors.ts";
import { WeightsError } from "../../weights/error.ts";
import { writeOnnx } from "../../weights/onnx.ts";
import { joined } from "../../weights/pieces.ts";
import { ProtobufMessage } from "../../weights/protobuf.ts";
import { checkWeights, type NetworkWeights, readWeights } from "../../weights/weights.ts";
import { relativeError } from "../kernels/run.ts";
import { referenceArrays } from "../reference/arrays.ts";
import { bytesOf, draws } from "./bytes.ts";
import { specs, weightsOf } from "./networks.ts";

/** A whole file, and what it could not hold. */
function onnxOf(weights: NetworkWeights) {
  const { pieces, ...rest } = writeOnnx(weights, { dataFile: "weights.data" });
  return { bytes: joined(pieces), ...rest };
}

/** Runs a file on images `[N, 3, H, W]`. */
async function infer(
  file: Uint8Array<ArrayBuffer>,
  { images, shape }: { images: Float32Array<ArrayBuffer>; shape: readonly number[] },
): Promise<Record<string, Float32Array>> {
  const session = await InferenceSession.create(file, { intraOpNumThreads: 1, interOpNumThreads: 1 });
  const outputs = await session.run({ images: new Tensor("float32", images, shape) });
  await session.release();
  return Object.fromEntries(
    Object.entries(outputs).map(([name, { data }]) => {
      assert(data instanceof Float32Array);
      return [name, data];
    }),
  );
}

/** The reference network of `tests/golden`, with a classifier of 3 classes. */
async function referenceWeights(): Promise<
  { weights: NetworkWeights; images: Float32Array<ArrayBuffer>; shape: readonly number[]; features: Float32Array }
> {
  const reference = await referenceArrays(new URL("../golden", import.meta.url).pathname, "regnety_tiny");
  const tensors = new Map<string, SafeTensor>(
    reference.namesUnder("weight.").map((name) => [
      `trunk.${name}`,
      f32Tensor(reference.numbers(`weight.${name}`), reference.shape(`weight.${name}`)),
    ]),
  );
  const width = reference.setting<number[]>("widths").at(-1) ?? 0;
  const classifier = Float32Array.from({ length: 3 * width }, (_, i) => (i % 7 - 3) / 4);
  tensors.set("fc.weight", f32Tensor(classifier, [3, width]));
  tensors.set("fc.bias", f32Tensor(Float32Array.of(1, -2, 3)));
  const weights = checkWeights(tensors, { naming: "seer" });
  const [images, shape] = [reference.numbers("input"), reference.shape("input")];
  return { weights, images, shape, features: reference.numbers("eval.features") };
}

Deno.test("onnxruntime computes torch's features and the classifier's logits from an exported file", async () => {
  const { weights, images, shape, features } = await referenceWeights();
  const { bytes, leftOut } = onnxOf(weights);
  assertEquals(leftOut, []);
  const found = await infer(bytes, { images, shape });
  assert(relativeError(found.features, features) < 1e-5, `relative error ${relativeError(found.features, features)}`);
  const matrix = f32Of(weights.tensors.get("fc.weight") ?? f32Tensor(new Float32Array()));
  const width = matrix.length / 3;
  for (let image = 0; image < shape[0]; image++) {
    for (let k = 0; k < 3; k++) {
      let logit = [1, -2, 3][k];
      for (let c = 0; c < width; c++) logit += matrix[k * width + c] * features[image * width + c];
      assertAlmostEquals(found.logits[image * 3 + k], logit, 1e-3);
    }
  }
});

Deno.test("an exported file takes any number and size of images, with and without squeeze-and-excitation", async () => {
  for (const seRatio of [0, 0.25]) {
    const spec = { stemWidth: 4, widths: [8, 12], depths: [1, 2], groupWidth: 4, seRatio };
    const { bytes } = onnxOf(checkWeights(weightsOf(spec), { naming: "seer" }));
    for (const shape of [[1, 3, 8, 8], [3, 3, 17, 9]]) {
      const count = shape.reduce((product, length) => product * length);
      const { features } = await infer(bytes, { images: new Float32Array(count).fill(0.5), shape });
      assertEquals(features.length, shape[0] * 12);
    }
  }
});

Deno.test("weights too large for one file lie in another beside it, and onnxruntime computes the same from both", async () => {
  const { weights, images, shape } = await referenceWeights();
  const one = onnxOf(weights);
  assertEquals(one.data, undefined);
  const { pieces, data } = writeOnnx(weights, { dataFile: "b.onnx.data", bytesMax: 10_000 });
  assert(data);
  const folder = await Deno.makeTempDir({ prefix: "seer-onnx-" });
  try {
    await Deno.writeFile(`${folder}/b.onnx`, joined(pieces));
    await Deno.writeFile(`${folder}/b.onnx.data`, joined(data));
    const session = await InferenceSession.create(`${folder}/b.onnx`, { intraOpNumThreads: 1, interOpNumThreads: 1 });
    const { features } = await session.run({ images: new Tensor("float32", images, shape) });
    await session.release();
    assertEquals(features.data, (await infer(one.bytes, { images, shape })).features);
    assertThrows(() => readWeights(joined(pieces)), WeightsError, "lies in another file");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("what is exported to ONNX is read back with the same weights; head and prototypes are left out", () => {
  fc.assert(
    fc.property(specs, fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }), (spec, classes) => {
      const weights = checkWeights(weightsOf(spec, { classes, counters: false }), { naming: "seer" });
      const { bytes, count } = onnxOf(weights);
      assertEquals(count, weights.tensors.size);
      const again = readWeights(bytes);
      assertEquals([again.naming, [...again.tensors]], ["torchvision", [...weights.tensors]]);
      assertEquals(onnxOf(again).bytes, bytes, "equal weights give equal files");
    }),
    { numRuns: 20 },
  );
  const spec = { stemWidth: 4, widths: [8], depths: [1], groupWidth: 4 };
  const { leftOut } = onnxOf(checkWeights(weightsOf(spec, { head: [6, 3] }), { naming: "seer" }));
  assertEquals(leftOut, ["head.0.weight", "head.0.bias", "head.2.weight", "head.2.bias", "prototypes.weight"]);
});

Deno.test("halves become floats, and shapes get the ones that a file left off", () => {
  const spec = { stemWidth: 4, widths: [8], depths: [1], groupWidth: 4 };
  const tensors = weightsOf(spec, { counters: false });
  const name = "trunk.trunk_output.block1.block1-0.f.a.0.weight";
  tensors.set(name, { dtype: "F16", shape: [8, 4], bytes: new Uint8Array(new Float16Array(32).fill(0.5).buffer) });
  const again = readWeights(onnxOf(checkWeights(tensors, { naming: "seer" })).bytes).tensors.get(name);
  assertEquals(again, f32Tensor(new Float32Array(32).fill(0.5), [8, 4, 1, 1]));
});

Deno.test("broken and foreign ONNX files are refused", () => {
  const file = (...tensors: ProtobufMessage[]) => {
    const graph = new ProtobufMessage();
    for (const tensor of tensors) graph.message(5, tensor);
    return joined(new ProtobufMessage().integer(1, 8).message(7, graph).pieces);
  };
  const tensor = (type = 1) => new ProtobufMessage().integers(1, [2]).integer(2, type).text(8, "a");
  const refused = (bytes: Uint8Array<ArrayBuffer>, text: string) =>
    assertThrows(() => readWeights(bytes), WeightsError, text);
  refused(file(tensor().bytes(9, new Uint8Array(8))), "found no stem");
  refused(file(tensor().bytes(9, new Uint8Array(4))), "must have 8 bytes, found 4");
  refused(file(tensor(8).bytes(9, new Uint8Array(8))), "element type 8");
  refused(file(tensor().integer(14, 1)), "lies in another file");
  refused(file(tensor().bytes(9, new Uint8Array(8)), tensor().bytes(9, new Uint8Array(8))), "there twice");
  refused(bytesOf(8, 8, 0x3b), "kind 3");
  refused(bytesOf(8, 8, 0x3a, 100, 1), "ends past");
  refused(bytesOf(8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff), "has no end");
});

Deno.test("an ONNX file with changed or missing bytes is read or refused, and never crashes the reader", () => {
  const spec = { stemWidth: 2, widths: [2], depths: [1], groupWidth: 2 };
  const { bytes } = onnxOf(checkWeights(weightsOf(spec), { naming: "seer" }));
  const tryRead = (file: Uint8Array<ArrayBuffer>) => {
    try {
      readWeights(file, {});
    } catch (error) {
      if (!(error instanceof WeightsError) && !(error instanceof Error && error.name === "CheckpointError")) {
        throw error;
      }
    }
  };
  for (let end = 0; end < bytes.byteLength; end += 3) tryRead(bytes.slice(0, end));
  const draw = draws(3);
  for (let trial = 0; trial < 2_000; trial++) {
    const broken = bytes.slice();
    broken[Number(draw.next().value) % broken.byteLength] = Number(draw.next().value) % 256;
    tryRead(broken);
  }
});
