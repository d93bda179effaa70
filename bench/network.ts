/**
 * A RegNetY forward and backward on one batch: f32, mixed precision, and with blocks computed again in the backward pass,
 * in turns on one device; bytes that the launches bind against the ideal, and peak memory of each arm on a device of its
 * own. `deno task bench network [--quick] [--part FILE]`.
 */
import type { Device } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { trafficOf } from "../device/traffic.ts";
import { countMacs } from "../nn/count.ts";
import { type RegNetY, regnetY } from "../nn/regnet.ts";
import { type RegnetName, regnetStages, regnetTable } from "../nn/regnet_spec.ts";
import { chooseSegments, type Segment } from "../nn/segments.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { HalfCopies } from "../tensor/halves.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import { Tape } from "../tensor/tape.ts";
import { freeTensors, readTensors, type Storage, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { madeUp, relativeError } from "../tests/kernels/close.ts";
import type { Entry } from "./report.ts";
import { roundOrder, SAMPLES_MIN, summarize } from "./statistics.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

interface Arm {
  readonly name: string;
  readonly storage: Storage;
  readonly segments: readonly Segment[];
}

interface Passes {
  /** Crops, each `[count, size, size, 3]`. */
  readonly crops: readonly { readonly count: number; readonly size: number }[];
}

/** What is timed. */
interface Work extends Passes {
  readonly name: string;
  readonly network: RegnetName;
  readonly images: number;
}

const WORKS: readonly Work[] = [
  { name: "400MF, 8 × 224 px", network: "regnety_400mf", images: 8, crops: [{ count: 8, size: 224 }] },
  {
    name: "400MF, 8 images: 2×64 + 4×32 px",
    network: "regnety_400mf",
    images: 8,
    crops: [{ count: 16, size: 64 }, { count: 32, size: 32 }],
  },
];

/** What a GPU is asked for besides: SEER's crops, and the largest network at the paper's batch. */
const GPU_WORKS: readonly Work[] = (["regnety_16gf", "regnety_256gf"] as const).map((network) => ({
  name: `${network.slice("regnety_".length).toUpperCase()}, 16 images: 2×224 + 4×96 px`,
  network,
  images: 16,
  crops: [{ count: 32, size: 224 }, { count: 64, size: 96 }],
}));

function specOf(network: RegnetName) {
  return regnetStages(regnetTable[network], "seer");
}

/** One forward and backward pass over all crops; resolves to the features. */
async function pass(
  trunk: RegNetY,
  views: readonly Tensor[],
  { device, storage, segments }: Arm & { device: Device },
): Promise<Float32Array> {
  const halves = storage === "f16" ? new HalfCopies(device) : undefined;
  const tape = new Tape(device, { gradients: true, halves });
  try {
    const context = { tape, training: true, updateStatistics: true, storage, segments };
    const parts: Tensor[] = [];
    for (const [i, view] of views.entries()) parts.push(await trunk.forward(view, { ...context, pass: `crops ${i}` }));
    const features = concatRows(tape, parts);
    await tape.backward(features, { keep: [features] });
    return (await readTensors([features]))[0].slice();
  } finally {
    tape.dispose();
    halves?.drop();
  }
}

/** A trunk and its crops on a device. */
function prepare(device: Device, { network, crops }: Work) {
  const trunk = regnetY(specOf(network), { device, seed: 1 });
  const views = crops.map(({ count, size }, i) =>
    tensorFrom(device, madeUp(count * size * size * 3, i), [count, size, size, 3])
  );
  return { trunk, views };
}

/** Peak memory of an arm, on a device that has run nothing else. */
async function peakOf(work: Work, arm: Arm, provider: "auto" | "deno" | "dawn"): Promise<number> {
  const device = await openDevice({ provider });
  const { trunk, views } = prepare(device, work);
  await pass(trunk, views, { ...arm, device });
  const { peakBytes } = device.memory;
  device.destroy();
  return peakBytes;
}

function armsOf({ network, crops }: Work): Arm[] {
  const passes = crops.map(({ count, size }) =>
    trunkShape(specOf(network)).unitActivations(size).map(({ all, output, gradients }) => ({
      all: all * count,
      output: output * count,
      gradients: gradients * count,
    }))
  );
  const segments = chooseSegments(passes);
  return [
    { name: "ours f32", storage: "f32", segments: [] },
    { name: "ours f32, blocks again", storage: "f32", segments },
    { name: "ours mixed", storage: "f16", segments: [] },
    { name: "ours mixed, blocks again", storage: "f16", segments },
  ];
}

async function measure(work: Work, device: Device, provider: "auto" | "deno" | "dawn"): Promise<Entry[]> {
  const arms = armsOf(work).filter(({ storage }) => storage === "f32" || device.adapter.features.includes("f16"));
  const { trunk, views } = prepare(device, work);
  // Forward once and backward twice, of the trunk alone.
  const macs = work.crops.reduce((sum, { count, size }) => sum + count * countMacs(specOf(work.network), size), 0);
  const flops = 6 * macs;
  const expected = await pass(trunk, views, { ...arms[0], device });
  const samples = arms.map((): number[] => []), errors: number[] = [];
  for (const arm of arms) errors.push(relativeError(await pass(trunk, views, { ...arm, device }), expected));
  arms.forEach(({ name, storage }, i) => {
    // Features of 32 px crops are single pixels, whose normalisation by few rows magnifies what f16 rounds.
    if (!(errors[i] <= (storage === "f32" ? 1e-5 : 0.15))) throw new Error(`${name} is off by ${errors[i]}`);
  });
  for (let round = 0; round < SAMPLES_MIN; round++) {
    for (const index of roundOrder(arms.length, round)) {
      const start = performance.now();
      await pass(trunk, views, { ...arms[index], device });
      samples[index].push(performance.now() - start);
    }
  }
  const tensors = [...trunk.parameters(), ...trunk.buffers()].map(({ tensor }) => tensor);
  freeTensors([...views, ...tensors]);
  const entries: Entry[] = [];
  for (const [i, arm] of arms.entries()) {
    const common = { suite: "network", arm: arm.name, error: errors[i] };
    const name = `${work.name}: forward + backward`;
    entries.push({ ...common, name, unit: "ms", better: "lower", flops, ...summarize(samples[i]) });
    const peak = await peakOf(work, arm, provider) / 2 ** 20;
    entries.push({ ...common, name: `${work.name}: peak memory`, unit: "MiB", better: "lower", ...summarize([peak]) });
    const moved = await trafficOf({ adapter: device.adapter }, async (counting) => {
      const made = prepare(counting, work);
      await pass(made.trunk, made.views, { ...arm, device: counting });
    });
    const ratio = `${(moved.boundBytes / moved.idealBytes).toFixed(2)} times the ideal`;
    const bytes = summarize([moved.boundBytes / 1e6]);
    entries.push({ ...common, name: `${work.name}: bytes bound`, unit: "MB", better: "lower", note: ratio, ...bytes });
  }
  return entries;
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const entries: Entry[] = [];
  const works = device.adapter.kind === "gpu" ? [...WORKS, ...GPU_WORKS] : WORKS;
  for (const work of works.filter(({ name }) => name.includes(options.only))) {
    const found = await measure(work, device, options.provider);
    entries.push(...found);
    const first = found.find(({ unit }) => unit === "ms")?.median ?? NaN;
    console.log(table(
      [work.name, "arm", "median [least, greatest]", "to f32", "rate"],
      found.map(({ name, arm, unit, median, min, max, flops, note }) => [
        name.slice(work.name.length + 2),
        arm,
        unit === "ms" ? `${short(median)} [${short(min)}, ${short(max)}] ms` : `${short(median)} ${unit}`,
        unit === "ms" ? (median / first).toFixed(2) : "",
        flops === undefined
          ? note ?? ""
          : `${short(flops / median / 1e6)} GFLOP/s, ${short(1000 * work.images / median)} images/s`,
      ]),
    ));
    console.log("");
  }
  await finish(options, { device, entries });
}
