/**
 * jax-js on its WebGPU or WebAssembly backend, every operation jitted. Its layouts are NCHW and [co, ci, kh, kw]; operands
 * are brought to them before, and results back after, the timing.
 */
import { conv2dOutput, type Conv2dShape } from "../../kernels/conv2d_shape.ts";
import type { Arm } from "../measure.ts";
import { sampledError } from "../sampled.ts";
import { load, type Peer, PEER_ERROR_MAX, type PeerConv2d, type PeerMatmul, permute } from "./peer.ts";

interface JaxArray {
  /** A further reference; every operation uses one up. */
  readonly ref: JaxArray;
  reshape(shape: readonly number[]): JaxArray;
  data(): Promise<Float32Array>;
  /** Dispatches what the array waits for, without waiting for the end of it; WebGPU only. */
  gpuBuffer(): Promise<GPUBuffer>;
  dispose(): void;
}

type JaxFunction = (...inputs: JaxArray[]) => JaxArray;
type Pullback = ((cotangent: JaxArray) => JaxArray[]) & { dispose(): void };

interface Jax {
  init(...devices: string[]): Promise<string[]>;
  defaultDevice(device: string): string;
  blockUntilReady(array: JaxArray): Promise<JaxArray>;
  jit(action: JaxFunction): JaxFunction & { dispose(): void };
  vjp(action: JaxFunction, primals: readonly JaxArray[]): [JaxArray, Pullback];
  readonly numpy: { array(data: Float32Array): JaxArray; matmul(a: JaxArray, b: JaxArray): JaxArray };
  readonly lax: {
    convGeneralDilated(
      x: JaxArray,
      w: JaxArray,
      strides: readonly number[],
      padding: readonly (readonly number[])[],
      options: { featureGroupCount: number },
    ): JaxArray;
  };
}

/** Loads jax-js; one peer for each backend that starts. */
export async function openJax(version: string): Promise<Peer[]> {
  const jax = await load<Jax>("@jax-js/jax");
  const started = await jax.init("webgpu", "wasm");
  return ["webgpu", "wasm"].filter((backend) => started.includes(backend)).map((backend): Peer => ({
    name: `jax-js ${backend}`,
    version,
    matmul(work) {
      return matmulArm(jax, work, backend);
    },
    conv2d(work) {
      return conv2dArm(jax, work, backend);
    },
  }));
}

function matmulArm(jax: Jax, { shape: { m, n, k }, left, right, expected }: PeerMatmul, backend: string): Arm {
  jax.defaultDevice(backend);
  return armOf(jax, {
    backend,
    inputs: [jax.numpy.array(left).reshape([m, k]), jax.numpy.array(right).reshape([k, n])],
    action: (a, b) => jax.numpy.matmul(a, b),
    error: (found) => sampledError(found, expected),
  });
}

function conv2dArm(jax: Jax, { shape, pass, operands, expected }: PeerConv2d, backend: string): Arm {
  jax.defaultDevice(backend);
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, padding, groups } = shape;
  const out = conv2dOutput(shape);
  const place = (data: Float32Array, sizes: readonly number[], axes: readonly number[]) =>
    jax.numpy.array(permute(data, sizes, axes)).reshape(axes.map((axis) => sizes[axis]));
  const [nchw, oihw] = [[0, 3, 1, 2], [3, 2, 0, 1]];
  const input = () => place(operands.input, [batch, height, width, inChannels], nchw);
  const weight = () => place(operands.weight, [kernelHeight, kernelWidth, inChannels / groups, outChannels], oihw);
  const dy = () => place(operands.outGradient, [batch, out.height, out.width, outChannels], nchw);
  const convolve = (x: JaxArray, w: JaxArray) =>
    jax.lax.convGeneralDilated(x, w, [stride, stride], [[padding, padding], [padding, padding]], {
      featureGroupCount: groups,
    });
  // The primal result is dead code under jit; only the gradient is computed.
  const pull = (action: JaxFunction, primal: JaxArray, cotangent: JaxArray) => {
    const [y, pullback] = jax.vjp(action, [primal]);
    y.dispose();
    const [gradient] = pullback(cotangent);
    pullback.dispose();
    return gradient;
  };
  const action: JaxFunction = {
    "forward": convolve,
    "input gradient": (x: JaxArray, w: JaxArray, g: JaxArray) => {
      const gradient = pull((x) => convolve(x, w.ref), x, g);
      w.dispose();
      return gradient;
    },
    "weight gradient": (x: JaxArray, w: JaxArray, g: JaxArray) => {
      const gradient = pull((w) => convolve(x.ref, w), w, g);
      x.dispose();
      return gradient;
    },
  }[pass];
  return armOf(jax, {
    backend,
    inputs: pass === "forward" ? [input(), weight()] : [input(), weight(), dy()],
    action,
    error: (found) => sampledError(inOurLayout(found, shape, pass), expected),
  });
}

function inOurLayout(found: Float32Array, shape: Conv2dShape, pass: PeerConv2d["pass"]): Float32Array {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, groups } = shape;
  const out = conv2dOutput(shape);
  if (pass === "weight gradient") {
    return permute(found, [outChannels, inChannels / groups, kernelHeight, kernelWidth], [2, 3, 1, 0]);
  }
  const sizes = pass === "forward" ? [batch, outChannels, out.height, out.width] : [batch, inChannels, height, width];
  return permute(found, sizes, [0, 2, 3, 1]);
}

interface ArmParts {
  readonly backend: string;
  readonly inputs: readonly JaxArray[];
  readonly action: JaxFunction;
  error(found: Float32Array): number;
}

function armOf(jax: Jax, { backend, inputs, action, error }: ArmParts): Arm {
  const jitted = jax.jit(action);
  const once = () => jitted(...inputs.map((input) => input.ref));
  return {
    name: `jax-js ${backend}`,
    errorMax: PEER_ERROR_MAX,
    async run(repeats) {
      jax.defaultDevice(backend);
      // Lazy: what is disposed of undispatched is never computed.
      for (let i = 1; i < repeats; i++) {
        const array = once();
        await (backend === "webgpu" ? array.ref.gpuBuffer() : jax.blockUntilReady(array));
        array.dispose();
      }
      const last = once();
      await jax.blockUntilReady(last);
      last.dispose();
    },
    async check() {
      jax.defaultDevice(backend);
      return error(await once().data());
    },
    dispose() {
      for (const input of inputs) input.dispose();
      jitted.dispose();
    },
  };
}
