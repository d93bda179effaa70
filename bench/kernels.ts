/**
 * Times matrix multiply and convolution at the quickstart's layers, after checking each result against its reference.
 *
 *     deno run -A bench/kernels.ts [--provider deno|dawn] [--batch 32] [--rounds 5] [--only TEXT]
 *
 * Prints per kernel the time of its first run, which includes compiling, and the median time with minimum and maximum.
 */
import { parseArgs } from "@std/cli/parse-args";
import type { Device, DeviceBuffer } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import {
  conv2dForward,
  conv2dForwardReference,
  conv2dInputGradient,
  conv2dInputGradientReference,
  conv2dOutput,
  type Conv2dShape,
  conv2dWeightGradient,
  conv2dWeightGradientReference,
} from "../kernels/conv2d.ts";
import type { Kernel } from "../kernels/kernel.ts";
import { matmul, matmulReference } from "../kernels/matmul.ts";
import { assertClose, madeUp } from "../tests/kernels/close.ts";

type Floats = Float32Array<ArrayBuffer>;

interface Subject {
  readonly name: string;
  readonly flops: number;
  /** Kernels with the data they bind; a number is the length of a buffer that is written. */
  readonly kernels: readonly Kernel[];
  readonly inputs: readonly Floats[];
  readonly lengths: readonly number[];
  readonly reference: () => Floats;
}

/** The convolutions of a RegNetY with stem 16, widths 32/64/128, depths 1/1/1 and groups of 8. */
function layers(batch: number, pixels: number): Record<string, Conv2dShape> {
  const result: Record<string, Conv2dShape> = {};
  const conv = (name: string, [inChannels, outChannels, kernel, stride, height]: number[], groups = 1) => {
    result[`${name} ${pixels} px`] = {
      batch,
      height,
      width: height,
      inChannels,
      outChannels,
      kernelHeight: kernel,
      kernelWidth: kernel,
      stride,
      padding: (kernel - 1) / 2,
      groups,
    };
  };
  conv("stem", [3, 16, 3, 2, pixels]);
  let [size, channels] = [pixels / 2, 16];
  for (const [stage, width] of [32, 64, 128].entries()) {
    conv(`stage ${stage + 1} a`, [channels, width, 1, 1, size]);
    conv(`stage ${stage + 1} b`, [width, width, 3, 2, size], width / 8);
    conv(`stage ${stage + 1} shortcut`, [channels, width, 1, 2, size]);
    size = Math.ceil(size / 2);
    conv(`stage ${stage + 1} c`, [width, width, 1, 1, size]);
    channels = width;
  }
  return result;
}

function convolution(name: string, shape: Conv2dShape): Subject[] {
  const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
  const [input, weight, outGradient] = [madeUp(inputLength, 1), madeUp(weightLength, 2), madeUp(outputLength, 3)];
  const flops = 2 * outputLength * (weightLength / shape.outChannels);
  const { partial, reduce, workspaceBytes } = conv2dWeightGradient(shape);
  return [
    {
      name: `${name} forward`,
      flops,
      kernels: [conv2dForward(shape)],
      inputs: [input, weight],
      lengths: [outputLength],
      reference: () => conv2dForwardReference(shape, { input, weight }),
    },
    {
      name: `${name} input gradient`,
      flops,
      kernels: [conv2dInputGradient(shape)],
      inputs: [outGradient, weight],
      lengths: [inputLength],
      reference: () => conv2dInputGradientReference(shape, { outGradient, weight }),
    },
    {
      name: `${name} weight gradient`,
      flops,
      kernels: reduce ? [partial, reduce] : [partial],
      inputs: [input, outGradient],
      lengths: reduce ? [workspaceBytes / 4, weightLength] : [weightLength],
      reference: () => conv2dWeightGradientReference(shape, { input, outGradient }),
    },
  ];
}

function multiply(size: number): Subject {
  const shape = { m: size, n: size, k: size };
  const [a, b] = [madeUp(size * size, 1), madeUp(size * size, 2)];
  return {
    name: `matmul ${size}³`,
    flops: 2 * size ** 3,
    kernels: [matmul(shape)],
    inputs: [a, b],
    lengths: [size * size],
    reference: () => matmulReference(shape, { a, b }),
  };
}

async function measure(device: Device, subject: Subject, rounds: number): Promise<{ first: number; times: number[] }> {
  const inputs = subject.inputs.map((data) => device.upload(data));
  const outputs = subject.lengths.map((length) => device.allocate(4 * length));
  const result = outputs[outputs.length - 1];
  const once = () =>
    subject.kernels.forEach((kernel, index) => {
      const bound: DeviceBuffer[] = index === 0 ? [...inputs, outputs[0]] : [outputs[index - 1], outputs[index]];
      device.run(kernel, bound);
    });
  const timed = async (repeats: number) => {
    const start = performance.now();
    for (let repeat = 0; repeat < repeats; repeat++) once();
    await device.read([{ buffer: result, byteLength: 4 }]);
    return (performance.now() - start) / repeats;
  };
  const first = await timed(1);
  const [bytes] = await device.read([{ buffer: result }]);
  assertClose(new Float32Array(bytes.buffer), subject.reference(), { bound: 2e-6, what: subject.name });
  // Enough repeats that a readback's 12 ms on Deno's provider weigh little.
  const repeats = Math.max(1, Math.min(100, Math.round(100 / (await timed(10)))));
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await timed(repeats));
  for (const buffer of [...inputs, ...outputs]) device.free(buffer);
  return { first, times: times.sort((x, y) => x - y) };
}

const options = parseArgs(Deno.args, { string: ["provider", "batch", "rounds", "only"] });
const provider = options.provider === "dawn" || options.provider === "deno" ? options.provider : "auto";
const batch = Number(options.batch ?? 32);
const only = typeof options.only === "string" ? options.only : "";
const device = await openDevice({ provider });
console.log(`${device.adapter.name} through ${device.adapter.provider}, batch ${batch}`);
const subjects = [multiply(256), multiply(512)];
for (const pixels of [48, 24]) {
  for (const [name, shape] of Object.entries(layers(batch, pixels))) subjects.push(...convolution(name, shape));
}
const totals = new Map<string, { ms: number; flops: number; first: number }>();
for (const subject of subjects.filter(({ name }) => name.includes(only))) {
  const { first, times } = await measure(device, subject, Number(options.rounds ?? 5));
  const median = times[Math.floor(times.length / 2)];
  const rate = subject.flops / median / 1e6;
  console.log(
    `${subject.name.padEnd(40)} first ${first.toFixed(0).padStart(5)} ms  median ${
      median.toFixed(3).padStart(8)
    } ms  ` +
      `(${times[0].toFixed(3)} to ${times[times.length - 1].toFixed(3)})  ${rate.toFixed(2).padStart(6)} GFLOP/s`,
  );
  const pass = subject.name.split(" ").slice(-2).join(" ");
  const total = totals.get(pass) ?? { ms: 0, flops: 0, first: 0 };
  totals.set(pass, { ms: total.ms + median, flops: total.flops + subject.flops, first: total.first + first });
}
for (const [pass, { ms, flops, first }] of totals) {
  console.log(
    `total ${pass}: ${ms.toFixed(1)} ms, ${(flops / ms / 1e6).toFixed(2)} GFLOP/s, first runs ${first.toFixed(0)} ms`,
  );
}
// Dawn's teardown may crash after the work is done; leave without it.
Deno.exit(0);
