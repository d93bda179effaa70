import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { f32Of, f32Tensor, readSafetensors, writeSafetensors } from "../../checkpoint/safetensors.ts";
import { WeightsError } from "../../weights/error.ts";
import { floatsOf, stateDictOf } from "../../weights/floats.ts";
import { namings } from "../../weights/naming.ts";
import { describeReport } from "../../weights/report.ts";
import { readTorchFile } from "../../weights/torch_file.ts";
import { writeTorchFile } from "../../weights/torch_write.ts";
import { checkWeights, readWeights, renameWeights } from "../../weights/weights.ts";
import { joined } from "../../weights/pieces.ts";
import { writeWeights } from "../../weights/write.ts";
import { goldenFile } from "./bytes.ts";
import { specs, weightsOf } from "./networks.ts";

const SPEC = { stemWidth: 4, widths: [8, 12], depths: [1, 2], groupWidth: 4, seRatio: 0.25 };

/** Weights of {@linkcode SPEC}, checked. */
const checked = (options: Parameters<typeof weightsOf>[1] = {}) =>
  checkWeights(weightsOf(SPEC, options), { naming: "seer" });

Deno.test("weights go through every library's names and containers and back; elements and counters are kept", () => {
  fc.assert(
    fc.property(specs, fc.option(fc.integer({ min: 1, max: 4 }), { nil: undefined }), (spec, classes) => {
      const start = checkWeights(weightsOf(spec, { classes }), { naming: "seer" });
      let current = start;
      for (const naming of ["torchvision", "vissl", "timm", "hf", "seer"] as const) {
        for (const container of ["torch", "safetensors"] as const) {
          // Transformers knows one ratio of squeeze-and-excitation.
          if (naming === "hf" && spec.seRatio === 0.5) continue;
          const files = writeWeights(current, { naming, container });
          assertEquals(files.leftOut, []);
          current = readWeights(joined(files.pieces));
          assertEquals(current.naming, naming);
        }
      }
      assertEquals([...current.tensors], [...start.tensors], "order, names and elements");
    }),
    { numRuns: 20 },
  );
});

Deno.test("projection head and prototypes travel with VISSL's names and are left out of others by name", () => {
  const weights = checked({ head: [6, 6, 3], counters: false });
  const vissl = readWeights(joined(writeWeights(weights, { naming: "vissl", container: "torch" }).pieces));
  assertEquals(vissl.tensors.get("head.4.weight"), weights.tensors.get("head.4.weight"));
  assertEquals(vissl.tensors.get("prototypes.weight")?.shape, [5, 3]);
  for (const naming of ["torchvision", "timm", "hf"] as const) {
    const { leftOut } = renameWeights(weights, naming);
    assertEquals(leftOut.length, 7);
    assert(leftOut.every((name) => /^(?:head|prototypes)\./.test(name)));
  }
});

Deno.test("counters of batches are zeros for other libraries where there were none, and absent for SEER", () => {
  const weights = checked({ counters: false });
  for (const naming of namings) {
    const { tensors } = renameWeights(weights, naming);
    const counters = [...tensors].filter(([name]) => name.endsWith("num_batches_tracked"));
    assertEquals(counters.length, naming === "seer" ? 0 : 12, naming);
    assert(
      counters.every(([, { dtype, shape, bytes }]) =>
        dtype === "I64" && shape.length === 0 && bytes.every((b) => b === 0)
      ),
    );
    assertEquals(checkWeights(tensors, { naming }).report.missing, [], "a file without them is complete");
  }
  const names = [...renameWeights(weights, "torchvision").tensors.keys()].slice(0, 6);
  const parts = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
  assertEquals(names, ["stem.0.weight", ...parts.map((part) => `stem.1.${part}`)], "torch's order");
});

Deno.test("torch's own files hold what the formula says, in both namings", async () => {
  const torchvision = readWeights(await goldenFile("regnet_torchvision.pth"));
  const vissl = readWeights(await goldenFile("regnet_vissl.torch"));
  assertEquals([torchvision.naming, vissl.naming], ["torchvision", "vissl"]);
  assertEquals(torchvision.spec, SPEC);
  assertEquals([...vissl.tensors].sort(), [...torchvision.tensors].sort());
  // Torch's state dict has the order that ours has.
  [...torchvision.tensors].forEach(([name, tensor], place) => {
    if (tensor.dtype === "I64") return;
    const shift = name.endsWith("running_var") ? 4 : 0;
    const expected = f32Of(tensor).map((_, i) => ((7 * i + 13 * place) % 64 - 32) / 16 + shift);
    assertEquals(f32Of(tensor), expected, name);
  });
});

Deno.test("everything missing, unexpected and of another shape is listed in one error, by the file's names", () => {
  const { tensors } = renameWeights(checked(), "timm");
  const broken = new Map(tensors);
  broken.delete("s1.b1.conv2.bn.running_var");
  broken.set("s2.b2.conv3.bn.weight", f32Tensor(new Float32Array(13)));
  broken.set("s2.b1.conv1.bn.bias", { dtype: "I32", shape: [12], bytes: new Uint8Array(48) });
  broken.set("optimizer.lr", f32Tensor(new Float32Array(1)));
  const error = assertThrows(() => readWeights(writeSafetensors(broken), { name: "a.safetensors" }), WeightsError);
  assertEquals(
    error.message,
    "Cannot use a.safetensors: every tensor must fit the network; 81 matched; 1 missing (s1.b1.conv2.bn.running_var); " +
      "1 unexpected (optimizer.lr); 2 of another shape (s2.b1.conv1.bn.bias (must be floats, file has I32), " +
      "s2.b2.conv3.bn.weight (network [12], file [13]))",
  );
});

Deno.test("weights of another network than the one asked for are refused", () => {
  const file = joined(writeWeights(checked(), { naming: "hf", container: "safetensors" }).pieces);
  readWeights(file, { spec: SPEC });
  assertThrows(
    () => readWeights(file, { spec: { ...SPEC, depths: [1, 3] } }),
    WeightsError,
    "19 missing (encoder.stages.1.layers.2",
  );
  assertThrows(() => readWeights(file, { spec: { ...SPEC, widths: [8, 16] } }), WeightsError, "of another shape");
  assertThrows(() => readWeights(file, { naming: "timm" }), WeightsError, "names are hf's, and --format says timm");
});

Deno.test("a part of a classifier, a broken head and tensors under two names are refused", () => {
  const without = (name: string) => {
    const tensors = weightsOf(SPEC, { classes: 3, head: [6, 4] });
    assert(tensors.delete(name));
    return () => checkWeights(tensors, { naming: "seer" });
  };
  assertThrows(without("fc.bias"), WeightsError, "missing (fc.bias)");
  assertThrows(without("head.0.weight"), WeightsError, "missing (head.0.weight)");
  const tensors = new Map(renameWeights(checked(), "torchvision").tensors);
  tensors.set("module.stem.1.bias", f32Tensor(new Float32Array(4)));
  assertThrows(() => checkWeights(tensors, { naming: "torchvision" }), WeightsError, "are the same tensor");
});

Deno.test("files that hold no RegNet, half of one, or several, are refused with what to do", () => {
  const { tensors } = renameWeights(checked(), "torchvision");
  const torch = (value: Parameters<typeof writeTorchFile>[0], options = {}) => () =>
    readWeights(writeTorchFile(value), options);
  assertThrows(torch(new Map([["a", f32Tensor(new Float32Array(1))]])), WeightsError, "found no stem");
  assertThrows(torch(new Map()), WeightsError, "found no stem");
  const both = new Map([["state_dict", tensors], ["ema", tensors]]);
  assertThrows(torch(both), WeightsError, 'several networks, at "state_dict", "ema"; choose one with --place');
  assertEquals(torch(both, { place: "ema" })().report.missing, []);
  assertThrows(torch(both, { place: "no" }), WeightsError, 'tensors are at "state_dict", "ema"');
  const stemOnly = new Map([...tensors].filter(([name]) => name.startsWith("stem.")));
  assertThrows(torch(stemOnly), WeightsError, "stage 1 is missing");
  const far = new Map([...tensors, ["trunk_output.block1.block1-99999.f.a.0.weight", f32Tensor(new Float32Array(1))]]);
  assertThrows(torch(far), WeightsError, "has no place in one");
});

Deno.test("a safetensors file is known whatever length its header has", () => {
  const { tensors } = renameWeights(checked({ counters: false }), "torchvision");
  const firstBytes = new Set<number>();
  // Headers are padded to multiples of 8, so that 32 lowest bytes of their length occur, among them those of the others.
  for (let padding = 0; padding < 256; padding += 8) {
    const file = writeSafetensors(tensors, { padding: "x".repeat(padding) });
    firstBytes.add(file[0]);
    assertEquals(readWeights(file).naming, "torchvision");
  }
  assert(firstBytes.has(0x80) && firstBytes.has(0x50));
});

Deno.test("an error shows some names of many, and says that there are more", () => {
  const names = Array.from({ length: 20 }, (_, i) => `n${i}`);
  assertEquals(
    describeReport({ matched: [], missing: names, unexpected: [], mismatched: [] }),
    "0 matched; 20 missing (n0, n1, n2, n3, n4, n5, n6, n7, …)",
  );
});

Deno.test("halves and doubles become the floats they are; counters are no weights", () => {
  const values = [0, -1.5, 0.25, 2 ** -14, 65504, Infinity];
  const tensor = (dtype: "F16" | "F64" | "BF16", bytes: ArrayBuffer) => ({
    dtype,
    shape: [6],
    bytes: new Uint8Array(bytes),
  });
  assertEquals([...floatsOf(tensor("F16", Float16Array.from(values).buffer))], values);
  assertEquals([...floatsOf(tensor("F64", Float64Array.from(values).buffer))], values);
  const brain = Uint16Array.from(
    new Uint32Array(Float32Array.from([0, -1.5, 0.25, 2 ** -14, 65536, Infinity]).buffer),
    (bits) => bits >>> 16,
  );
  assertEquals([...floatsOf(tensor("BF16", brain.buffer))], [0, -1.5, 0.25, 2 ** -14, 65536, Infinity]);
  const { tensors } = checked({ classes: 2 });
  const dict = stateDictOf(tensors, "trunk.");
  assertEquals(dict.get("stem.0.weight")?.shape, [4, 3, 3, 3]);
  assert([...dict.keys()].every((name) => !/^fc|num_batches/.test(name)));
  assertThrows(() => floatsOf({ dtype: "I64", shape: [], bytes: new Uint8Array(8) }), WeightsError, "I64");
});

Deno.test("what torch wrote is written again with equal elements, and tied tensors stay one", async () => {
  const plain = readTorchFile(await goldenFile("plain_stream.pth")).dicts.get("state_dict");
  assert(plain);
  const value = new Map([["deep", [null, true, -5, 2 ** 40, 0.5, "é", plain]]]);
  const again = readTorchFile(writeTorchFile(value)).dicts;
  assertEquals([...again.keys()], ["deep.6"]);
  assertEquals(again.get("deep.6"), plain);
  assert(again.get("deep.6")?.get("tied.a") === again.get("deep.6")?.get("tied.b"));
  assertEquals(writeTorchFile(value), writeTorchFile(value));
  assertThrows(
    () => writeTorchFile({ dtype: "U64", shape: [1], bytes: new Uint8Array(8) }),
    WeightsError,
    "no storage of U64",
  );
});

Deno.test("configurations tell each library what network it is", () => {
  const config = (naming: "hf" | "timm" | "torchvision", options = {}) =>
    JSON.parse(writeWeights(checked(options), { naming, container: "safetensors", imageSize: 96 }).config);
  assertEquals(config("hf"), {
    architectures: ["RegNetModel"],
    model_type: "regnet",
    num_channels: 3,
    embedding_size: 4,
    hidden_sizes: [8, 12],
    depths: [1, 2],
    groups_width: 4,
    layer_type: "y",
    hidden_act: "relu",
    downsample_in_first_stage: true,
  });
  const classified = config("hf", { classes: 3 });
  assertEquals([classified.architectures, classified.num_labels], [["RegNetForImageClassification"], 3]);
  assertEquals(config("timm").pretrained_cfg.input_size, [3, 96, 96]);
  assertEquals(config("torchvision").network, SPEC);
  const odd = checkWeights(weightsOf({ ...SPEC, seRatio: 0.5 }), { naming: "seer" });
  assertThrows(() => writeWeights(odd, { naming: "hf", container: "torch" }), WeightsError, "must be a quarter");
});

Deno.test("safetensors carry the mark that transformers asks for", () => {
  const { pieces } = writeWeights(checked(), { naming: "hf", container: "safetensors" });
  assertEquals(readSafetensors(joined(pieces)).metadata, { format: "pt" });
});
