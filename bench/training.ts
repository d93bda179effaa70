/**
 * The whole SwAV step of a RegNetY at 2×64 + 4×32 px, as a trainer with one replica takes it: f32 and mixed, with and
 * without blocks computed again, in turns on one device; what the JavaScript thread does meanwhile, the share of each
 * kind of kernel, bytes bound and peak memory. `deno task bench training [--quick] [--only TEXT]`; works beside the first
 * run only where `--only` names them.
 */
import type { Device } from "../device/device.ts";
import { familyOf, trafficOf } from "../device/traffic.ts";
import { kernelTimes } from "./kernel_times.ts";
import type { Entry } from "./report.ts";
import { roundOrder, SAMPLES_MIN, summarize } from "./statistics.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";
import { type OpenStep, openStep, stepConfig, stepFlops, type StepOptions } from "./training_step.ts";
import { watch, type Watched } from "./watched.ts";

interface Work {
  readonly name: string;
  readonly network: string;
  readonly images: number;
  readonly arms: readonly Arm[];
}

interface Arm extends Pick<StepOptions, "precision" | "again"> {
  readonly name: string;
}

const ARMS: readonly Arm[] = [
  { name: "ours f32", precision: "f32", again: false },
  { name: "ours f32, blocks again", precision: "f32", again: true },
  { name: "ours mixed", precision: "mixed", again: false },
  { name: "ours mixed, blocks again", precision: "mixed", again: true },
];

const WORKS: readonly Work[] = [
  { name: "400MF, 8 images", network: "regnety_400mf", images: 8, arms: ARMS },
  { name: "16GF, 2 images", network: "regnety_16gf", images: 2, arms: ARMS.slice(0, 2) },
];

/** Kinds of kernels with less of a step are told together. */
const PERCENT_MIN = 1;

/** What a step of an arm gave, besides its time. */
interface Sample extends Watched {
  readonly ms: number;
}

async function sampleOf(device: Device, step: OpenStep): Promise<Sample> {
  const { watched, stop } = watch(device);
  const start = performance.now();
  try {
    await step.take();
  } finally {
    stop();
  }
  return { ...watched, ms: performance.now() - start };
}

/** Entries of one arm from its samples. */
async function entriesOf(
  { work, arm, samples, error }: { work: Work; arm: Arm; samples: readonly Sample[]; error: number },
  device: Device,
): Promise<Entry[]> {
  const config = stepConfig({ ...work, ...arm, network: work.network });
  const common = { suite: "training", arm: arm.name, better: "lower", error } as const;
  const of = (what: string, unit: string, values: readonly number[]) => ({
    ...common,
    name: `${work.name}: ${what}`,
    unit,
    ...summarize(values),
  });
  const moved = await trafficOf({ adapter: device.adapter, choices: device.choices.toJSON() }, async (counting) => {
    await openStep(counting, config).take();
  });
  const [{ launches, submits, reads }] = samples;
  return [
    { ...of("step", "ms", samples.map(({ ms }) => ms)), flops: stepFlops(config) },
    {
      ...of("encode", "ms", samples.map(({ encodeMs }) => encodeMs)),
      note: `${launches} launches, ${submits} submits, ${reads} reads`,
    },
    of("submits", "ms", samples.map(({ submitMs }) => submitMs)),
    of("waiting for reads", "ms", samples.map(({ waitMs }) => waitMs)),
    {
      ...of("bytes bound", "MB", [moved.boundBytes / 1e6]),
      note: `${(moved.boundBytes / moved.idealBytes).toFixed(2)} times the ideal`,
    },
    { ...of("peak memory", "MiB", [moved.peakBytes / 2 ** 20]), note: "counted, without the pool's rounding" },
  ];
}

/** Shares of a step's kernels by what they do, each timed by itself. */
async function shareEntries(
  work: Work,
  arm: Arm,
  { device, step }: { device: Device; step: OpenStep },
): Promise<Entry[]> {
  const times = await kernelTimes(device, () => step.take(), { repeats: 3 });
  const families = new Map<string, number>();
  for (const { label, ms } of times) families.set(familyOf(label), (families.get(familyOf(label)) ?? 0) + ms);
  const total = times.reduce((sum, { ms }) => sum + ms, 0);
  const shares = [...families].map(([family, ms]) => ({ family, ms, percent: 100 * ms / total }));
  const rest = shares.filter(({ percent }) => percent < PERCENT_MIN).reduce((sum, { ms }) => sum + ms, 0);
  const told = shares.filter(({ percent }) => percent >= PERCENT_MIN).sort((a, b) => b.ms - a.ms);
  return [...told, { family: "all others", ms: rest, percent: 100 * rest / total }].map(({ family, ms, percent }) => ({
    suite: "training",
    arm: arm.name,
    name: `${work.name}: share of ${family}`,
    unit: "%",
    better: "lower",
    error: null,
    note: `${short(ms)} of ${short(total)} ms, one at a time`,
    ...summarize([percent]),
  }));
}

async function measure(work: Work, device: Device): Promise<Entry[]> {
  const arms = work.arms.filter(({ precision }) => precision === "f32" || device.adapter.features.includes("f16"));
  const steps = arms.map((arm) => openStep(device, stepConfig({ ...work, ...arm, network: work.network })));
  const losses: number[] = [];
  for (const [index, step] of steps.entries()) {
    const start = performance.now();
    losses.push(await step.take());
    const again = step.segments === "" ? "" : `, units ${step.segments} again`;
    console.log(`${arms[index].name}${again}: first step ${short((performance.now() - start) / 1000)} s`);
  }
  const errors = losses.map((loss) => Math.abs(loss / losses[0] - 1));
  for (const [index, { name, precision }] of arms.entries()) {
    const bound = precision === "f32" ? 1e-6 : 0.01;
    if (!(errors[index] <= bound)) {
      throw new Error(`${name}: the first loss is ${losses[index]}, f32's is ${losses[0]}: off by more than ${bound}`);
    }
  }
  const samples = arms.map((): Sample[] => []);
  for (let round = 0; round < SAMPLES_MIN; round++) {
    for (const index of roundOrder(arms.length, round)) samples[index].push(await sampleOf(device, steps[index]));
  }
  const entries: Entry[] = [];
  for (const [index, arm] of arms.entries()) {
    const measured = { work, arm, samples: samples[index], error: errors[index] };
    entries.push(...await entriesOf(measured, device));
  }
  for (const [index, arm] of arms.entries()) {
    if (!arm.again) entries.push(...await shareEntries(work, arm, { device, step: steps[index] }));
  }
  for (const step of steps) step.dispose();
  return entries;
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const entries: Entry[] = [];
  const asked = WORKS.filter(({ name }, index) => options.only === "" ? index === 0 : name.includes(options.only));
  for (const work of asked) {
    const found = await measure(work, device);
    entries.push(...found);
    const stepOf = (arm: string) => found.find((entry) => entry.arm === arm && entry.unit === "ms")?.median ?? NaN;
    console.log(table(
      [work.name, "arm", "median [least, greatest]", ""],
      found.map(({ name, arm, unit, median, min, max, flops, note }) => [
        name.slice(work.name.length + 2),
        arm,
        min === max ? `${short(median)} ${unit}` : `${short(median)} [${short(min)}, ${short(max)}] ${unit}`,
        flops === undefined
          ? [note ?? "", unit === "ms" ? `${(100 * median / stepOf(arm)).toFixed(1)}% of the step` : ""]
            .filter((part) => part !== "").join("; ")
          : `${short(flops / median / 1e6)} GFLOP/s, ${short(1000 * work.images / median)} images/s`,
      ]),
    ));
    console.log("");
  }
  await finish(options, { device, entries });
}
