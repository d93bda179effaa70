/**
 * An ONNX graph under construction, and the few groups of operators that every network shares. Format: onnx.proto3 of ONNX
 * 1.12, operator set 17. It knows no network.
 */
import { ProtobufMessage } from "./protobuf.ts";

/** Field numbers and constants of onnx.proto3. */
const ATTRIBUTE_FLOAT = 1, ATTRIBUTE_INT = 2, ATTRIBUTE_INTS = 7;
/** PyTorch's, which every published RegNet and ResNet uses. */
const BATCH_NORM_EPSILON = 1e-5;

/** A graph under construction: each operator's output is named after what made it. */
export class Graph {
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

  /** A list of whole numbers, such as a shape. */
  integers(name: string, values: readonly number[]): string {
    return this.add("Constant", [], { name, attributes: { value_ints: values } });
  }

  /** One number. */
  number(name: string, value: number): string {
    return this.add("Constant", [], { name, attributes: { value_float: value }, float: ["value_float"] });
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
