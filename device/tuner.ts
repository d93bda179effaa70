/**
 * Finds the fastest variant of each heavy operation on a device: checks that all give the results of the default, times
 * them in turn, and decides. The clock is an argument. What was found is kept elsewhere (setup/tuning_cache.ts); which
 * operations a network needs is told by the caller.
 */
import { createHash } from "node:crypto";
import type { Capabilities, Variant } from "../kernels/variant.ts";
import type { Device } from "./device.ts";
import { messageOf } from "./checks.ts";
import type { HeavyUse } from "./tune_shapes.ts";
import { activationStorage, disagreement, notFinite, Trial } from "./tune_trial.ts";

/** Samples of each variant that decide. */
const ROUNDS = 5;
/** Runs in one sample, at most. */
const RUNS_MAX = 512;
/** Differences below this share are a tie. */
const NOISE = 0.03;
/** A variant that first takes this many times the fastest one's time is not timed further. */
const HOPELESS = 2.5;

/** How long one run of a variant took, by sample. */
export interface VariantTimes {
  readonly variant: string;
  readonly timesMs: readonly number[];
}

/** A variant that was not timed, and why. */
export interface SkippedVariant {
  readonly variant: string;
  readonly reason: string;
}

/** What the tuner decided for one operation and shape. */
export interface TunedChoice {
  readonly key: string;
  readonly variant: string;
  /** The stated default. */
  readonly usual: string;
  /** Median of the chosen variant; absent where there was nothing to choose from. */
  readonly medianMs?: number;
  /** Median of the default. */
  readonly usualMs?: number;
  /** Floating-point operations of one run. */
  readonly flops: number;
  /** {@linkcode variantsDigest} of what was chosen from. */
  readonly digest: string;
  readonly skipped: readonly SkippedVariant[];
  /** Whether every variant had its chance; not so where the buffers did not fit. */
  readonly complete: boolean;
}

/** What the tuner reaches outside itself. */
export interface TunerPorts {
  /** Opens the device; again after a variant that broke it. */
  open(): Promise<Device>;
  /** Monotonic milliseconds. */
  now(): number;
  /** Told each choice when it is made. */
  onChoice?(choice: TunedChoice): void;
}

/** The median. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Half the distance between the quartiles, over the median. */
function spread(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const quartile = (share: number) => sorted[Math.round(share * (sorted.length - 1))];
  return (quartile(0.75) - quartile(0.25)) / 2 / median(values);
}

/**
 * The variant with the least median; the default where it is as fast within the noise (3%, or the two variants' own
 * spread). Variants with fewer samples than the others were given up and do not count.
 *
 * @throws RangeError when nothing was timed.
 */
export function decide(times: readonly VariantTimes[], { usual }: { usual: string }): string {
  const samples = Math.max(0, ...times.map(({ timesMs }) => timesMs.length));
  const whole = times.filter(({ timesMs }) => timesMs.length === samples && samples > 0);
  if (whole.length === 0) throw new RangeError("Cannot decide between variants: none was timed");
  const best = whole.reduce((least, arm) => median(arm.timesMs) < median(least.timesMs) ? arm : least);
  const standard = whole.find(({ variant }) => variant === usual);
  if (standard === undefined) return best.variant;
  const noise = Math.max(NOISE, spread(best.timesMs) + spread(standard.timesMs));
  return median(standard.timesMs) <= median(best.timesMs) * (1 + noise) ? usual : best.variant;
}

/** A variant as the timer sees it: `run` resolves when that many runs are over. */
export interface Arm {
  readonly variant: string;
  run(times: number): Promise<void>;
}

/** An arm that could not run. */
export class ArmError extends Error {
  override readonly name = "ArmError";
  readonly variant: string;

  constructor(variant: string, cause: unknown) {
    super(messageOf(cause).split("\n")[0], { cause });
    this.variant = variant;
  }
}

async function runArm({ variant, run }: Arm, times: number): Promise<void> {
  try {
    await run(times);
  } catch (cause) {
    throw new ArmError(variant, cause);
  }
}

/**
 * Times arms in turn, one sample of each a round, so that whatever slows the machine down slows all of them. A sample is
 * as many runs as take `sampleMs`; what a wait costs by itself, `latencyMs`, is taken off.
 *
 * @throws {ArmError} when an arm fails.
 */
export async function timeArms(
  arms: readonly Arm[],
  { now, usual, sampleMs, latencyMs }: { now(): number; usual: string; sampleMs: number; latencyMs: number },
): Promise<VariantTimes[]> {
  const sample = async (arm: Arm, runs: number) => {
    const startedAt = now();
    await runArm(arm, runs);
    const tookMs = now() - startedAt;
    return Math.max(tookMs - latencyMs, tookMs / 2) / runs;
  };
  const firsts: number[] = [];
  for (const arm of arms) {
    let runs = 1, ms = await sample(arm, runs);
    // What is short against the wait is seen only in numbers.
    while (runs < RUNS_MAX && ms * runs < sampleMs / 2) ms = await sample(arm, runs *= 8);
    firsts.push(ms);
  }
  const limitMs = HOPELESS * Math.min(...firsts);
  const timed = arms.map((arm, i) => ({
    arm,
    given: arm.variant === usual || firsts[i] <= limitMs,
    runs: Math.min(RUNS_MAX, Math.max(1, Math.ceil(sampleMs / firsts[i]))),
    timesMs: new Array<number>(),
  }));
  for (let round = 0; round < ROUNDS; round++) {
    for (const { arm, given, runs, timesMs } of timed) if (given) timesMs.push(await sample(arm, runs));
  }
  return timed.map(({ arm: { variant }, timesMs }, i) => ({
    variant,
    timesMs: timesMs.length > 0 ? timesMs : [firsts[i]],
  }));
}

/** The variants of a use that the device can run, and why the others cannot. */
export function candidatesOf(
  { operation, shape }: HeavyUse,
  device: Capabilities,
): { candidates: Variant<unknown, string>[]; skipped: SkippedVariant[] } {
  const candidates: Variant<unknown, string>[] = [];
  const skipped: SkippedVariant[] = [];
  for (const variant of operation.variants(shape)) {
    const reason = variant.refuses(shape, device);
    if (reason === undefined) candidates.push(variant);
    else skipped.push({ variant: variant.name, reason });
  }
  return { candidates, skipped };
}

/** SHA-256 over the texts of all variants that the device can run: a choice among other texts is stale. */
export function variantsDigest(use: HeavyUse, device: Capabilities): string {
  const hash = createHash("sha256").update(use.operation.usual(use.shape, device).name);
  for (const variant of candidatesOf(use, device).candidates) {
    hash.update(`\0${variant.name}`);
    for (const { kernel, buffers } of variant.program(use.shape, device).launches) {
      hash.update(`\0${kernel.wgsl}\0${kernel.workgroups}\0${buffers}`);
    }
  }
  return hash.digest("hex").slice(0, 16);
}

/** A device that is opened anew when a variant broke it. */
class Session {
  readonly #ports: TunerPorts;
  #device: Device | undefined;
  #latencyMs = 0;

  constructor(ports: TunerPorts) {
    this.#ports = ports;
  }

  get now(): () => number {
    return this.#ports.now;
  }

  async device(): Promise<{ device: Device; latencyMs: number }> {
    if (this.#device === undefined) {
      this.#device = await this.#ports.open();
      this.#latencyMs = await this.#measureLatency(this.#device);
    }
    return { device: this.#device, latencyMs: this.#latencyMs };
  }

  close(): void {
    this.#device?.destroy();
    this.#device = undefined;
  }

  /** What waiting for nothing takes. */
  async #measureLatency(device: Device): Promise<number> {
    const buffer = device.allocate(4);
    const waits: number[] = [];
    for (let i = 0; i < 6; i++) {
      const startedAt = this.#ports.now();
      await device.read([{ buffer }]);
      if (i > 0) waits.push(this.#ports.now() - startedAt);
    }
    device.free(buffer);
    return median(waits);
  }
}

/**
 * Tunes each use in turn. A variant that errs, or gives other results than the default, is left out with the reason; a use
 * whose buffers do not fit gets its default, untimed.
 *
 * @throws {Error} when the device cannot be opened, or every variant of a use fails.
 */
export async function tune(uses: readonly HeavyUse[], ports: TunerPorts): Promise<TunedChoice[]> {
  const session = new Session(ports);
  const choices: TunedChoice[] = [];
  try {
    for (const use of uses) {
      const choice = await tuneUse(use, session);
      choices.push(choice);
      ports.onChoice?.(choice);
    }
  } finally {
    session.close();
  }
  return choices;
}

async function tuneUse(use: HeavyUse, session: Session): Promise<TunedChoice> {
  const capabilities = (await session.device()).device.choices.capabilities;
  const { operation, shape, key } = use;
  const found = candidatesOf(use, capabilities);
  const skipped = [...found.skipped];
  let left = found.candidates;
  const standard = operation.usual(shape, capabilities).name;
  const common = { key, usual: standard, flops: operation.flops(shape), digest: variantsDigest(use, capabilities) };
  while (left.length > 1) {
    const usual = (left.find(({ name }) => name === standard) ?? left[0]).name;
    try {
      const timed = await attempt(use, { session, variants: left, usual });
      skipped.push(...timed.skipped);
      const variant = decide(timed.times, { usual });
      const medianOf = (name: string) => {
        const times = timed.times.find((arm) => arm.variant === name)?.timesMs;
        return times === undefined ? undefined : median(times);
      };
      return { ...common, variant, medianMs: medianOf(variant), usualMs: medianOf(standard), skipped, complete: true };
    } catch (error) {
      session.close();
      if (!(error instanceof ArmError)) {
        const reason = `not timed: ${messageOf(error).split("\n")[0]}`;
        const others = left.filter(({ name }) => name !== usual).map(({ name }) => ({ variant: name, reason }));
        return { ...common, variant: usual, skipped: [...skipped, ...others], complete: false };
      }
      skipped.push({ variant: error.variant, reason: error.message });
      left = left.filter(({ name }) => name !== error.variant);
    }
  }
  if (left.length === 0) {
    const reasons = skipped.map(({ variant, reason }) => `${variant}: ${reason}`).join("; ");
    throw new Error(`Cannot tune "${key}": no variant runs here (${reasons})`);
  }
  return { ...common, variant: left[0].name, skipped, complete: true };
}

/** Checks the variants against the default, which comes first, and times those that agree. */
async function attempt(
  use: HeavyUse,
  { session, variants, usual }: { session: Session; variants: readonly Variant<unknown, string>[]; usual: string },
): Promise<{ times: VariantTimes[]; skipped: SkippedVariant[] }> {
  const { device, latencyMs } = await session.device();
  const trial = new Trial(device, use);
  await trial.finish();
  const programs = variants.map((variant) => ({
    variant: variant.name,
    program: variant.program(use.shape, device.choices.capabilities),
  }));
  const storage = activationStorage(use.shape);
  const resultsOf = async ({ variant, program }: typeof programs[number]) => {
    try {
      return await trial.results(program);
    } catch (cause) {
      throw new ArmError(variant, cause);
    }
  };
  const standard = programs.find(({ variant }) => variant === usual) ?? programs[0];
  const reference = await resultsOf(standard);
  const fault = notFinite(reference);
  if (fault !== undefined) throw new ArmError(usual, fault);
  const skipped: SkippedVariant[] = [];
  const arms: Arm[] = [];
  for (const arm of programs) {
    const { variant, program } = arm;
    const reason = arm === standard ? undefined : disagreement(reference, await resultsOf(arm), { storage, of: usual });
    if (reason !== undefined) {
      skipped.push({ variant, reason });
      continue;
    }
    arms.push({
      variant,
      run(times) {
        for (let i = 0; i < times; i++) trial.launch(program);
        return trial.finish();
      },
    });
  }
  const times = await timeArms(arms, { now: session.now, usual, sampleMs: Math.max(10, 4 * latencyMs), latencyMs });
  trial.free();
  return { times, skipped };
}
