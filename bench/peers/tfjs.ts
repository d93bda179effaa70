/**
 * TensorFlow.js on its WebGPU backend. It has no grouped convolution there; a user splits, convolves each group and joins,
 * and so does this arm, whose note says so. Layouts are ours (NHWC; [kh, kw, ci, co]).
 */
import { conv2dOutput } from "../../kernels/conv2d_shape.ts";
import type { Arm } from "../measure.ts";
import { sampledError } from "../sampled.ts";
import { load, type Peer, PEER_ERROR_MAX, type PeerConv2d, type PeerMatmul } from "./peer.ts";

interface TfTensor {
  data(): Promise<Float32Array>;
  dispose(): void;
}

interface Tf {
  readonly version_core: string;
  setBackend(name: string): Promise<boolean>;
  ready(): Promise<void>;
  tensor(values: Float32Array, shape: readonly number[]): TfTensor;
  tidy<T>(action: () => T): T;
  matMul(a: TfTensor, b: TfTensor): TfTensor;
  conv2d(input: TfTensor, filter: TfTensor, strides: number, padding: number): TfTensor;
  split(x: TfTensor, count: number, axis: number): TfTensor[];
  concat(parts: readonly TfTensor[], axis: number): TfTensor;
  reshape(x: TfTensor, shape: readonly number[]): TfTensor;
  slice(x: TfTensor, begin: readonly number[], size: readonly number[]): TfTensor;
  engine(): {
    runKernel(name: string, inputs: Record<string, TfTensor>, attributes: Record<string, unknown>): TfTensor;
  };
}

/** Loads TensorFlow.js and its WebGPU backend, which wants a browser's `window`. */
export async function openTfjs(): Promise<Peer> {
  if (!("window" in globalThis)) Object.assign(globalThis, { window: globalThis });
  const tf = await load<Tf>("@tensorflow/tfjs-core");
  await load("@tensorflow/tfjs-backend-webgpu");
  if (!await tf.setBackend("webgpu")) throw new Error("its webgpu backend does not start here");
  await tf.ready();
  return {
    name: "tfjs webgpu",
    version: tf.version_core,
    matmul(work) {
      return matmulArm(tf, work);
    },
    conv2d(work) {
      return conv2dArm(tf, work);
    },
  };
}

function matmulArm(tf: Tf, { shape: { m, n, k }, left, right, expected }: PeerMatmul): Arm {
  const [a, b] = [tf.tensor(left, [m, k]), tf.tensor(right, [k, n])];
  return armOf(tf, { inputs: [a, b], once: () => tf.matMul(a, b), error: (found) => sampledError(found, expected) });
}

function conv2dArm(tf: Tf, { shape, pass, operands, expected }: PeerConv2d): Arm {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const out = conv2dOutput(shape);
  const inGroup = inChannels / groups;
  const filterShape = [kernelHeight, kernelWidth, inGroup, outChannels / groups];
  const input = tf.tensor(operands.input, [batch, height, width, inChannels]);
  const filter = tf.tensor(operands.weight, [kernelHeight, kernelWidth, inGroup, outChannels]);
  const dy = tf.tensor(operands.outGradient, [batch, out.height, out.width, outChannels]);
  const attributes = { strides: [stride, stride], pad: padding, dataFormat: "NHWC" };
  const inputShape = [batch, height, width, inGroup];
  const one = {
    "forward": (x: TfTensor, w: TfTensor) => tf.conv2d(x, w, stride, padding),
    "input gradient": (g: TfTensor, w: TfTensor) =>
      tf.engine().runKernel("Conv2DBackpropInput", { dy: g, filter: w }, { ...attributes, inputShape }),
    "weight gradient": (x: TfTensor, g: TfTensor) =>
      tf.engine().runKernel("Conv2DBackpropFilter", { x, dy: g }, { ...attributes, filterShape }),
  }[pass];
  const pairs = { "forward": [input, filter], "input gradient": [dy, filter], "weight gradient": [input, dy] }[pass];
  const [first, second] = pairs;
  const once = groups === 1 ? () => one(first, second) : () =>
    tf.tidy(() => {
      const [firsts, seconds] = [tf.split(first, groups, 3), tf.split(second, groups, 3)];
      return tf.concat(firsts.map((part, i) => one(part, seconds[i])), 3);
    });
  return armOf(tf, {
    inputs: [input, filter, dy],
    once,
    error: (found) => sampledError(found, expected),
    note: groups === 1 ? undefined : "split by group and joined",
  });
}

interface ArmParts {
  readonly inputs: readonly TfTensor[];
  once(): TfTensor;
  error(found: Float32Array): number;
  readonly note?: string;
}

function armOf(tf: Tf, { inputs, once, error, note }: ArmParts): Arm {
  return {
    name: "tfjs webgpu",
    note,
    errorMax: PEER_ERROR_MAX,
    async run(repeats) {
      for (let i = 1; i < repeats; i++) once().dispose();
      const last = once();
      const value = tf.tidy(() => tf.slice(tf.reshape(last, [-1]), [0], [1]));
      await value.data();
      value.dispose();
      last.dispose();
    },
    async check() {
      const result = once();
      const found = error(await result.data());
      result.dispose();
      return found;
    },
    dispose() {
      for (const input of inputs) input.dispose();
    },
  };
}
