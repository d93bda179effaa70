/**
 * Writes a network as an ONNX file: a graph of standard operators whose weights keep torchvision's names. Input `images`
 * [N, 3, H, W] with any N, H and W (of a vision transformer the size of its positions), normalised as in training; outputs `features` [N, C] and, with a classifier, `logits` [N, classes].
 * Format: onnx.proto3 of ONNX 1.12, operator set 17.
 */
import { regnetBlocks } from "../nn/regnet_spec.ts";
import { resnetBlocks, type ResnetSpec } from "../nn/resnet_spec.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { isResnet, isVit, type TrunkSpec } from "../nn/trunk_spec.ts";
import { floatsOf } from "./floats.ts";
import { trunkTensors } from "./network.ts";
import { Graph } from "./onnx_graph.ts";
import { buildVit } from "./onnx_vit.ts";
import { ProtobufMessage } from "./protobuf.ts";
import { type NetworkWeights, renameWeights } from "./weights.ts";
import type { WeightsFiles } from "./write.ts";

const IR_VERSION = 8, OPERATOR_SET = 17;
const PAGE_BYTES = 4096;
/** Protobuf's readers take no more. */
const BYTES_MAX = 2 ** 31 - 1;
/** Field numbers and constants of onnx.proto3. */
const FLOAT = 1, EXTERNAL = 1;

function buildResnet(spec: ResnetSpec, graph: Graph): string {
  const stem = graph.normalised("images", { names: ["conv1", "bn1"], kernel: 7, stride: 2 });
  const attributes = { kernel_shape: [3, 3], strides: [2, 2], pads: [1, 1, 1, 1] };
  let current = graph.add("MaxPool", [stem], { name: "maxpool/output", attributes });
  for (const { name, stride, groups, projected } of resnetBlocks(spec)) {
    const names = (place: number) => [`${name}.conv${place}`, `${name}.bn${place}`] as const;
    const down = [`${name}.downsample.0`, `${name}.downsample.1`] as const;
    const shortcut = projected ? graph.normalised(current, { names: down, stride, relu: false }) : current;
    const a = graph.normalised(current, { names: names(1) });
    const b = graph.normalised(a, { names: names(2), kernel: 3, stride, groups });
    const c = graph.normalised(b, { names: names(3), relu: false });
    const sum = graph.add("Add", [shortcut, c], { name: `${name}/sum` });
    current = graph.add("Relu", [sum], { name: `${name}/output` });
  }
  return graph.add("GlobalAveragePool", [current], { name: "pooled" });
}

function buildGraph(spec: TrunkSpec, graph: Graph): string {
  if (isVit(spec)) return buildVit(spec, graph);
  if (isResnet(spec)) return buildResnet(spec, graph);
  let current = graph.normalised("images", { names: ["stem.0", "stem.1"], kernel: 3, stride: 2 });
  for (const { name, stride, groups, squeezeWidth, projected } of regnetBlocks(spec)) {
    const names = (part: string) => [`${name}.${part}.0`, `${name}.${part}.1`] as const;
    const shortcut = projected ? graph.normalised(current, { names: names("proj"), stride, relu: false }) : current;
    const a = graph.normalised(current, { names: names("f.a") });
    const b = graph.normalised(a, { names: names("f.b"), kernel: 3, stride, groups });
    const scaled = squeezeWidth > 0 ? graph.squeezed(b, `${name}.f.se`) : b;
    const c = graph.normalised(scaled, { names: names("f.c"), relu: false });
    const sum = graph.add("Add", [shortcut, c], { name: `${name}/sum` });
    current = graph.add("Relu", [sum], { name: `${name}/output` });
  }
  return graph.add("GlobalAveragePool", [current], { name: "pooled" });
}

/** A tensor that a graph takes or gives; texts are lengths that may be anything. */
function valueInfo(name: string, lengths: readonly (number | string)[]): ProtobufMessage {
  const shape = new ProtobufMessage();
  for (const length of lengths) {
    const dimension = new ProtobufMessage();
    shape.message(1, typeof length === "number" ? dimension.integer(1, length) : dimension.text(2, length));
  }
  const tensor = new ProtobufMessage().integer(1, FLOAT).message(2, shape);
  return new ProtobufMessage().text(1, name).message(2, new ProtobufMessage().message(1, tensor));
}

/** Weights in a file beside the graph's. */
class DataFile {
  readonly pieces: Uint8Array<ArrayBuffer>[] = [];
  #byteLength = 0;

  constructor(readonly name: string) {}

  /** Adds bytes where a page starts, so that readers can map them; where that is. */
  add(bytes: Uint8Array<ArrayBuffer>): number {
    const padding = (PAGE_BYTES - this.#byteLength % PAGE_BYTES) % PAGE_BYTES;
    const offset = this.#byteLength + padding;
    this.pieces.push(new Uint8Array(padding), bytes);
    this.#byteLength = offset + bytes.byteLength;
    return offset;
  }
}

/** A tensor with its bytes, or with where they lie. */
function initialiser(
  { name, shape, bytes }: { name: string; shape: readonly number[]; bytes: Uint8Array<ArrayBuffer> },
  data: DataFile | undefined,
): ProtobufMessage {
  const tensor = new ProtobufMessage().integers(1, shape).integer(2, FLOAT).text(8, name);
  if (data === undefined) return tensor.bytes(9, bytes);
  const entries = { location: data.name, offset: data.add(bytes), length: bytes.byteLength };
  for (const [key, value] of Object.entries(entries)) {
    tensor.message(13, new ProtobufMessage().text(1, key).text(2, String(value)));
  }
  return tensor.integer(14, EXTERNAL);
}

/** An ONNX file, and the file of its weights where they lie in one of their own. */
export interface OnnxFiles extends Omit<WeightsFiles, "config"> {
  /** The weights' file in order; none where the ONNX file holds them. */
  readonly data?: readonly Uint8Array<ArrayBuffer>[];
}

/**
 * Trunk and classifier as an ONNX file; halves and doubles become f32. Equal weights give equal files. Above 2 GiB, where
 * protobuf ends, weights lie in a file of their own, which must stay beside it under the name `dataFile`.
 */
export function writeOnnx(weights: NetworkWeights, options: { dataFile: string; bytesMax?: number }): OnnxFiles {
  const { dataFile, bytesMax = BYTES_MAX } = options;
  const { spec } = weights;
  const { tensors, leftOut } = renameWeights(weights, "torchvision");
  const graph = new Graph();
  const { width } = trunkShape(spec);
  const features = graph.add("Flatten", [buildGraph(spec, graph)], { name: "features", attributes: { axis: 1 } });
  const outputs = [valueInfo(features, ["batch", width])];
  const classifier = isVit(spec) ? "heads.head" : "fc";
  const classes = tensors.get(`${classifier}.bias`)?.shape[0];
  if (classes !== undefined) {
    graph.add("Gemm", [features, `${classifier}.weight`, `${classifier}.bias`], {
      name: "logits",
      attributes: { transB: 1 },
    });
    outputs.push(valueInfo("logits", ["batch", classes]));
  }
  graph.message.text(2, isVit(spec) ? "vit" : isResnet(spec) ? "resnet" : "regnet");
  // Shapes as the operators need them, whatever trailing ones a file left off.
  const shapes = new Map(trunkTensors(spec).map(({ name, shape }) => [name.slice("trunk.".length), shape]));
  if (classes !== undefined) shapes.set(`${classifier}.weight`, [classes, width]);
  const floats = [...tensors].filter(([name]) => !name.endsWith("num_batches_tracked")).map(([name, tensor]) => {
    const { buffer, byteOffset, byteLength } = floatsOf(tensor);
    return { name, shape: shapes.get(name) ?? tensor.shape, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  // Names and shapes take far less than the rest of a kilobyte each.
  const total = floats.reduce((sum, { bytes }) => sum + bytes.byteLength + 1024, graph.message.byteLength);
  const data = total > bytesMax ? new DataFile(dataFile) : undefined;
  for (const tensor of floats) graph.message.message(5, initialiser(tensor, data));
  // Positions are those of one size.
  const sides = isVit(spec) ? [spec.imageSize, spec.imageSize] : ["height", "width"];
  graph.message.message(11, valueInfo("images", ["batch", 3, ...sides]));
  for (const output of outputs) graph.message.message(12, output);
  const model = new ProtobufMessage().integer(1, IR_VERSION).text(2, "seer").message(7, graph.message)
    .message(8, new ProtobufMessage().text(1, "").integer(2, OPERATOR_SET));
  return { pieces: model.pieces, count: floats.length, leftOut, data: data?.pieces };
}
