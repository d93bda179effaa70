/**
 * Writes a RegNet or ResNet as an ONNX file: a graph of standard operators whose weights keep torchvision's names. Input `images` [N, 3, H, W] with any N, H and W,
 * normalised as in training; outputs `features` [N, C] and, with a classifier, `logits` [N, classes].
 * Format: onnx.proto3 of ONNX 1.12, operator set 17.
 */
import { regnetBlocks } from "../nn/regnet_spec.ts";
import { resnetBlocks, type ResnetSpec } from "../nn/resnet_spec.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { WeightsError } from "./error.ts";
import { isResnet, isVit, type TrunkSpec } from "../nn/trunk_spec.ts";
import { floatsOf } from "./floats.ts";
import { trunkTensors } from "./network.ts";
import { ProtobufMessage } from "./protobuf.ts";
import { type NetworkWeights, renameWeights } from "./weights.ts";
import type { WeightsFiles } from "./write.ts";

const IR_VERSION = 8, OPERATOR_SET = 17;
const PAGE_BYTES = 4096;
/** Protobuf's readers take no more. */
const BYTES_MAX = 2 ** 31 - 1;
/** Field numbers and constants of onnx.proto3. */
const FLOAT = 1, EXTERNAL = 1;
const ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_INTS = 7;
/** PyTorch's, which every published RegNet and ResNet uses. */
const BATCH_NORM_EPSILON = 1e-5;

/** A graph under construction: each operator's output is named after what made it. */
class Graph {
  readonly message: ProtobufMessage = new ProtobufMessage();

  /** Adds an operator; the name of its output. */
  add(
    operator: string,
    inputs: readonly string[],
    options: {
      name: string;
      attributes?: Readonly<Record<string, number | readonly number[]>>;
      float?: readonly string[];
    },
  ): string {
    const { name, attributes = {}, float = [] } = options;
    const node = new ProtobufMessage();
    for (const input of inputs) node.text(1, input);
    node.text(2, name).text(3, name).text(4, operator);
    for (const [key, value] of Object.entries(attributes)) {
      const attribute = new ProtobufMessage().text(1, key);
      if (typeof value !== "number") attribute.integers(8, value).integer(20, ATTRIBUTE_INTS);
      else if (float.includes(key)) attribute.float(2, value).integer(20, ATTRIBUTE_FLOAT);
      else attribute.integer(3, value).integer(20, ATTRIBUTE_INT);
      node.message(5, attribute);
    }
    this.message.message(1, node);
    return name;
  }

  /** Convolution and batch normalisation by torchvision's names. */
  normalised(
    input: string,
    options: { names: readonly [string, string]; kernel?: number; stride?: number; groups?: number; relu?: boolean },
  ): string {
    const { names: [convolution, norm], kernel = 1, stride = 1, groups = 1, relu = true } = options;
    const padding = (kernel - 1) / 2;
    const convolved = this.add("Conv", [input, `${convolution}.weight`], {
      name: `${convolution}/output`,
      attributes: {
        kernel_shape: [kernel, kernel],
        strides: [stride, stride],
        pads: [padding, padding, padding, padding],
        group: groups,
      },
    });
    const parts = ["weight", "bias", "running_mean", "running_var"].map((part) => `${norm}.${part}`);
    const output = this.add("BatchNormalization", [convolved, ...parts], {
      name: `${norm}/output`,
      attributes: { epsilon: BATCH_NORM_EPSILON },
      float: ["epsilon"],
    });
    return relu ? this.add("Relu", [output], { name: `${norm}/relu` }) : output;
  }

  squeezed(input: string, name: string): string {
    const attributes = { kernel_shape: [1, 1] };
    const layer = (from: string, part: string) =>
      this.add("Conv", [from, `${name}.${part}.weight`, `${name}.${part}.bias`], {
        name: `${name}.${part}/output`,
        attributes,
      });
    const pooled = this.add("GlobalAveragePool", [input], { name: `${name}/pooled` });
    const narrow = this.add("Relu", [layer(pooled, "fc1")], { name: `${name}/relu` });
    const gate = this.add("Sigmoid", [layer(narrow, "fc2")], { name: `${name}/gate` });
    return this.add("Mul", [input, gate], { name: `${name}/output` });
  }
}

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
  if (isVit(spec)) {
    throw new WeightsError(
      "Cannot write ONNX: only RegNets and ResNets are laid out for it, found a vision transformer; export to torchvision or timm",
    );
  }
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
  const classes = tensors.get("fc.bias")?.shape[0];
  if (classes !== undefined) {
    graph.add("Gemm", [features, "fc.weight", "fc.bias"], { name: "logits", attributes: { transB: 1 } });
    outputs.push(valueInfo("logits", ["batch", classes]));
  }
  graph.message.text(2, isResnet(spec) ? "resnet" : "regnet");
  // Shapes as the operators need them, whatever trailing ones a file left off.
  const shapes = new Map(trunkTensors(spec).map(({ name, shape }) => [name.slice("trunk.".length), shape]));
  if (classes !== undefined) shapes.set("fc.weight", [classes, width]);
  const floats = [...tensors].filter(([name]) => !name.endsWith("num_batches_tracked")).map(([name, tensor]) => {
    const { buffer, byteOffset, byteLength } = floatsOf(tensor);
    return { name, shape: shapes.get(name) ?? tensor.shape, bytes: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  // Names and shapes take far less than the rest of a kilobyte each.
  const total = floats.reduce((sum, { bytes }) => sum + bytes.byteLength + 1024, graph.message.byteLength);
  const data = total > bytesMax ? new DataFile(dataFile) : undefined;
  for (const tensor of floats) graph.message.message(5, initialiser(tensor, data));
  graph.message.message(11, valueInfo("images", ["batch", 3, "height", "width"]));
  for (const output of outputs) graph.message.message(12, output);
  const model = new ProtobufMessage().integer(1, IR_VERSION).text(2, "seer").message(7, graph.message)
    .message(8, new ProtobufMessage().text(1, "").integer(2, OPERATOR_SET));
  return { pieces: model.pieces, count: floats.length, leftOut, data: data?.pieces };
}
