/**
 * What protection costs a step of RegNetY-400MF at 2×64 + 4×32 px: whole steps of a trainer with it and without, in pairs
 * on one device from the same weights, and each of its parts by itself. `deno task bench protection [--quick] [--only
 * "whole steps"|parts] [--part FILE]`.
 */
import { parseConfig, type TrainConfig } from "../config.ts";
import { partEntries } from "./protection_parts.ts";
import { costEntries, takePairs } from "./protection_pairs.ts";
import type { Entry } from "./report.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";
import { stepConfig } from "./training_step.ts";

/** Pairs of steps that count. */
const PAIRS = 60, QUICK_PAIRS = 10;

/** The same step for each of two trainers. */
function ofTwo(config: TrainConfig): TrainConfig {
  return parseConfig({ ...config, replicas: 2, cluster: { ...config.cluster, trainers: 2 } }, {
    source: "the benchmark",
  });
}

function printSteps(entries: readonly Entry[]): void {
  console.log(table(
    ["whole steps", "arm", "median [least, greatest]", ""],
    entries.map(({ name, arm, unit, median, min, max, note = "" }) => [
      name,
      arm,
      `${short(median)} [${short(min)}, ${short(max)}] ${unit}`,
      note,
    ]),
  ));
}

function printParts(entries: readonly Entry[]): void {
  const [whole] = entries;
  console.log(table(
    ["protection", "median [least, greatest]", "of a step"],
    entries.map(({ name, median, min, max }) => [
      name,
      `${short(median)} [${short(min)}, ${short(max)}] ms`,
      `${(100 * median / whole.median).toFixed(3)}%`,
    ]),
  ));
  const counted = entries.filter(({ name }) => name !== "step" && name !== "read of one number");
  const sum = counted.reduce((total, { median }) => total + median, 0);
  console.log(`all together ${short(sum)} ms, ${(100 * sum / whole.median).toFixed(2)}% of a step`);
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const { only, quick, provider } = options;
  const device = await openForSuite(options);
  const config = stepConfig({ network: "regnety_400mf", images: 8, precision: "f32", again: false });
  const entries: Entry[] = [];
  if ("whole steps".includes(only)) {
    const pairs = await takePairs(ofTwo(config), { count: quick ? QUICK_PAIRS : PAIRS, provider });
    console.log(`load ${Deno.loadavg().map((load) => load.toFixed(1)).join(", ")}; ${pairs.length} pairs`);
    const found = costEntries("400MF, 8 images, one of two trainers", pairs);
    printSteps(found);
    entries.push(...found);
  }
  if ("parts".includes(only)) {
    const found = await partEntries(device, config);
    printParts(found);
    entries.push(...found);
  }
  await finish(options, { device, entries });
}
