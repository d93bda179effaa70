import { batchNormGradientCombine } from "../../kernels/batch_norm_gradient.ts";
import { batchNormReference } from "../../kernels/batch_norm.ts";
import {
  gateGradient,
  SQUEEZE_SUMS,
  squeezeGradientSums,
  squeezeInputGradient,
  squeezeMeans,
  squeezeNormSums,
  squeezePartials,
  type SqueezeShape,
  squeezeSums,
} from "../../kernels/squeeze.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "./run.ts";
import { runProgram, stored } from "./tile/run.ts";

const EPSILON = 1e-5;

/** Squeeze, gate and their gradients in double precision: y = relu(norm x), means of y, and the way back from g. */
function reference(
  { images, pixels, channels }: SqueezeShape,
  inputs: Readonly<Record<"x" | "gamma" | "beta" | "gate" | "g" | "towardsMeans", Float32Array>>,
) {
  const { x, gamma, beta, gate, g, towardsMeans } = inputs;
  const rows = images * pixels, image = (at: number) => Math.floor(at / (pixels * channels)) * channels + at % channels;
  const norm = { rows, channels, epsilon: EPSILON, relu: true };
  const { output, mean, variance } = batchNormReference({ x, gamma, beta, g: x }, norm);
  const means = new Float64Array(images * channels), towardsGate = new Float64Array(images * channels);
  output.forEach((y, at) => {
    means[image(at)] += y / pixels;
    towardsGate[image(at)] += g[at] * y;
  });
  const through = g.map((value, at) => value * gate[image(at)] + towardsMeans[image(at)] / pixels);
  const { xGradient, gammaGradient, betaGradient } = batchNormReference({ x, gamma, beta, g: through }, norm);
  const inverse = variance.map((v) => 1 / Math.sqrt(v + EPSILON));
  const factor = gamma.map((v, c) => v * inverse[c]);
  const normaliser = Float32Array.from([...mean, ...factor, ...beta, ...inverse]);
  const constant = through.map((v, at) => output[at] > 0 ? v * factor[at % channels] : 0);
  return { means, towardsGate, xGradient, gammaGradient, betaGradient, normaliser, constant };
}

const SHAPES: readonly SqueezeShape[] = [
  { images: 3, pixels: 35, channels: 8, storage: "f32" },
  { images: 2, pixels: 150, channels: 7, storage: "f32" },
  { images: 2, pixels: 71, channels: 12, storage: "f16" },
  { images: 1, pixels: 25, channels: 5, storage: "f16" },
];

for (const shape of SHAPES) {
  const { images, pixels, channels, storage } = shape;
  const name = `${images}x${pixels}x${channels} ${storage}`;
  eachDevice(
    `squeeze and the way back through gate, means and normalisation equal their reference: ${name}`,
    async (device) => {
      const length = images * pixels * channels, pooled = images * channels;
      const x = stored(numbers(length, 1).map((v, i) => 2 * v + i % channels), storage);
      const g = stored(numbers(length, 2), storage);
      const inputs = {
        x,
        g,
        gamma: numbers(channels, 3).map((v) => v + 1.5),
        beta: numbers(channels, 4),
        gate: numbers(pooled, 5).map((v) => v + 1),
        towardsMeans: numbers(pooled, 6),
      };
      const expected = reference(shape, inputs);
      const back = (training: boolean) => ({
        launches: [
          { kernel: squeezeSums(shape), buffers: ["x", "normaliser", "ones"] },
          { kernel: squeezeMeans(shape), buffers: ["ones", "means"] },
          { kernel: squeezeGradientSums(shape), buffers: ["g", "x", "normaliser", "partials"] },
          { kernel: gateGradient(shape), buffers: ["partials", "normaliser", "imageSums", "towardsGate"] },
          { kernel: squeezeNormSums(shape), buffers: ["imageSums", "gate", "towardsMeans", "normPartials"] },
          {
            kernel: batchNormGradientCombine({ rows: images * pixels, channels }),
            buffers: ["normPartials", "normaliser", "gammaGradient", "betaGradient", "sums"],
          },
          {
            kernel: squeezeInputGradient(shape, { training }),
            buffers: ["x", "normaliser", "gate", "towardsMeans", ...(training ? ["sums"] : []), "g"],
          },
        ],
        workspaceBytes: 0,
      });
      const bound = {
        x: { data: x, storage },
        g: { data: g, storage },
        normaliser: { data: expected.normaliser },
        gate: { data: inputs.gate },
        towardsMeans: { data: inputs.towardsMeans },
        ones: { data: squeezePartials(shape, 1) },
        means: { data: pooled },
        partials: { data: squeezePartials(shape, SQUEEZE_SUMS) },
        imageSums: { data: SQUEEZE_SUMS * pooled },
        towardsGate: { data: pooled },
        normPartials: { data: 2 * pooled },
        gammaGradient: { data: channels },
        betaGradient: { data: channels },
        sums: { data: 2 * channels },
      };
      const found = await runProgram<string>(device, back(true), bound);
      const check = (what: string, reference: ArrayLike<number>, allowed: number) =>
        assertClose(found.get(what) ?? [], reference, { bound: allowed, what });
      check("means", expected.means, 1e-6);
      check("towardsGate", expected.towardsGate, 1e-5);
      check("gammaGradient", expected.gammaGradient, 1e-5);
      check("betaGradient", expected.betaGradient, 1e-5);
      check("g", expected.xGradient, storage === "f32" ? 1e-5 : 1e-3);
      const fixed = await runProgram<string>(device, back(false), bound);
      const allowed = storage === "f32" ? 1e-5 : 1e-3;
      assertClose(fixed.get("g") ?? [], expected.constant, { bound: allowed, what: "by running statistics" });
    },
  );
}
