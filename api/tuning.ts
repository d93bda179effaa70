/**
 * Settles which variant of each heavy operation a run uses, before its first actor starts: what a resumed run recorded,
 * what the cache holds, what is timed now, or the stated defaults. The timing is done by a child process that sees the
 * GPU; the rest is arithmetic on shapes. Every trainer is then given the same record.
 */
import { stepUses } from "../actors/engine/shapes.ts";
import { ConfigError, type TrainConfig } from "../config.ts";
import { type ChoiceRecord, KernelChoices } from "../device/choices.ts";
import type { AdapterDescription } from "../device/device.ts";
import { messageOf } from "../device/checks.ts";
import { type HeavyUse, independentUses } from "../device/tune_shapes.ts";
import { candidatesOf, type TunedChoice, variantsDigest } from "../device/tuner.ts";
import { TuningCache } from "../setup/tuning_cache.ts";
import { kernelSummary, type SettledKernel, TuningReport } from "./tuning_text.ts";

/** What a run records of its kernels. */
export interface RecordedKernels {
  /** The adapter that they were chosen for. */
  readonly adapter: string;
  readonly choices: ChoiceRecord;
}

/** Times the uses with these keys, and tells each choice as it is made. */
export type Timing = (keys: readonly string[], onChoice: (choice: TunedChoice) => void) => Promise<void>;

/** Options of {@linkcode settleKernels}. */
export interface SettleOptions {
  readonly config: TrainConfig;
  readonly adapter: AdapterDescription;
  /** What an earlier part of the run recorded. */
  readonly recorded?: RecordedKernels;
  /** @default `cluster.tune` of the configuration */
  readonly mode?: TrainConfig["cluster"]["tune"];
  /** Time even what was timed before. @default false */
  readonly again?: boolean;
  /** @default the user's cache */
  readonly cacheFolder?: string;
  readonly time: Timing;
  readonly log: (line: string) => void;
}

/** A run's kernels, each shape once, in order of first use. */
export interface Settled {
  readonly recorded: RecordedKernels;
  readonly kernels: readonly SettledKernel[];
}

/**
 * Settles a run's kernels.
 *
 * @throws {ConfigError} when a recorded variant cannot run on the adapter.
 * @throws {RangeError} when no variant of an operation runs on the adapter.
 */
export async function settleKernels(options: SettleOptions): Promise<Settled> {
  const { config, adapter, recorded, log } = options;
  const { uses, unfit } = await stepUses(config, adapter, recorded?.choices);
  if (unfit.length > 0) {
    const [{ key, variant, reason }] = unfit;
    throw new ConfigError(
      "resume",
      `cannot go on with ${config.run.folder}/${config.run.name} on "${adapter.name}": the run recorded kernels on ` +
        `"${recorded?.adapter}", and ${unfit.length} of ${uses.length} do not run here, the first is "${variant}" for ` +
        `"${key}": ${reason}; resume it on such an adapter, or start a new run`,
    );
  }
  const kernels = recorded === undefined
    ? await chooseKernels(uses, options)
    : follow(uses, { adapter, recorded, log });
  const choices = Object.fromEntries(kernels.map(({ key, variant }) => [key, variant]));
  if (recorded === undefined) log(kernelSummary(kernels));
  return { recorded: { adapter: recorded?.adapter ?? adapter.name, choices }, kernels };
}

function capabilitiesOf(adapter: AdapterDescription): KernelChoices["capabilities"] {
  return { ...adapter, ...adapter.limits };
}

/** The kernels that the run had before; shapes that it did not have (of another version, other segments) get defaults. */
function follow(
  uses: readonly HeavyUse[],
  { adapter, recorded, log }: { adapter: AdapterDescription; recorded: RecordedKernels; log: (line: string) => void },
): SettledKernel[] {
  const choices = new KernelChoices(capabilitiesOf(adapter), recorded.choices);
  const kernels = uses.map(({ key, operation, shape }): SettledKernel => ({
    key,
    variant: choices.variant(operation, shape).name,
    usual: operation.usual(shape, choices.capabilities).name,
    flops: operation.flops(shape),
    source: choices.recorded(operation, shape) === undefined ? "default" : "recorded",
  }));
  const fresh = kernels.filter(({ source }) => source === "default").length;
  if (fresh > 0) log(`kernels: ${fresh} of ${uses.length} shapes have no recorded kernel and use their defaults`);
  return kernels;
}

/** Settles the kernels of a new run for these uses: as timed before, as timed now, or by default. */
export async function chooseKernels(uses: readonly HeavyUse[], options: SettleOptions): Promise<SettledKernel[]> {
  const { config, adapter, log, mode = config.cluster.tune, again = false } = options;
  const capabilities = capabilitiesOf(adapter);
  const cache = mode === "off" ? undefined : await openCache(options);
  const found = new Map<string, SettledKernel>();
  const missing: HeavyUse[] = [];
  for (const use of independentUses(uses)) {
    const { key, operation, shape } = use;
    const { candidates } = candidatesOf(use, capabilities);
    const common = { key, usual: operation.usual(shape, capabilities).name, flops: operation.flops(shape) };
    const entry = again ? undefined : cache?.find(key, () => variantsDigest(use, capabilities));
    if (candidates.length === 1) found.set(key, { ...common, variant: common.usual, source: "only" });
    else if (entry !== undefined && candidates.some(({ name }) => name === entry.variant)) {
      const { variant, medianMs, usualMs } = entry;
      found.set(key, { ...common, variant, medianMs, usualMs, source: "cached" });
    } else {
      found.set(key, { ...common, variant: common.usual, source: "default" });
      missing.push(use);
    }
  }
  if (cache !== undefined && missing.length > 0 && (mode === "on" || adapter.kind === "gpu")) {
    const refused = uses.flatMap((use) => candidatesOf(use, capabilities).skipped);
    for (const choice of await timed(missing, { ...options, cache, refused })) {
      const { key, variant, usual, medianMs, usualMs, flops } = choice;
      found.set(key, { key, variant, usual, medianMs, usualMs, flops, source: "tuned" });
    }
  }
  if (missing.length > 0 && mode === "auto" && adapter.kind === "cpu") {
    log("kernels: stated defaults on a software adapter; `deno task tune` times all that there are");
  }
  const choices = new KernelChoices(
    capabilities,
    Object.fromEntries([...found].map(([key, { variant }]) => [key, variant])),
  );
  return uses.map(({ key, operation, shape }) =>
    found.get(key) ?? {
      key,
      variant: choices.variant(operation, shape).name,
      usual: operation.usual(shape, capabilities).name,
      flops: operation.flops(shape),
      source: "tied",
    }
  );
}

/** The adapter's cache; none where no folder for it is known, and then nothing is timed either. */
async function openCache({ adapter, cacheFolder, log }: SettleOptions): Promise<TuningCache | undefined> {
  try {
    return await TuningCache.open(adapter, { folder: cacheFolder, log });
  } catch (error) {
    log(`kernels are not tuned: ${messageOf(error)}`);
  }
}

/** Times what is missing and keeps it; a child that fails, or is interrupted, leaves the rest to the defaults. */
async function timed(
  missing: readonly HeavyUse[],
  { adapter, time, log, cache, refused }: SettleOptions & {
    cache: TuningCache;
    refused: Parameters<TuningReport["skipped"]>[0];
  },
): Promise<TunedChoice[]> {
  log(`tuning ${missing.length} kernels for "${adapter.name}", once; --no-tune does without`);
  const report = new TuningReport(missing.length, log);
  report.skipped(refused);
  const choices: TunedChoice[] = [];
  try {
    await time(missing.map(({ key }) => key), (choice) => {
      choices.push(choice);
      if (choice.complete) cache.add(choice);
      report.chose(choice);
    });
  } catch (error) {
    const left = missing.length - choices.length;
    log(`tuning stopped, ${left} kernels keep their defaults: ${messageOf(error).split("\n")[0]}`);
  }
  await cache.save().catch((error: unknown) => log(`cannot keep what was tuned: ${messageOf(error)}`));
  return choices;
}
