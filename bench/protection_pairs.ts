/**
 * Pairs of steps with and without protection, in turns (with first, then without first), after both have given the same
 * losses and the same state bit for bit; and what their differences say. It times nothing itself.
 */
import type { TrainConfig } from "../config.ts";
import type { Provider } from "../device/device.ts";
import { openProtectedSteps, type TakenStep } from "./protected_step.ts";
import { type ArmName, armNames, phaseNames, type SignsOfProtection } from "./protected_step_arms.ts";
import type { Entry } from "./report.ts";
import { type Interval, medianInterval, summarize } from "./statistics.ts";

/** Pairs that only warm up. */
const WARM_UP = 2;

/** One step of each arm, the same step of the same state. */
export type Pair = Readonly<Record<ArmName, TakenStep>>;

/** Takes `count` pairs that count; throws where the arms do not compute the same, or one is not what it is called. */
export async function takePairs(
  config: TrainConfig,
  { count, ...options }: { count: number; provider?: Provider | "auto"; beating?: readonly string[] },
): Promise<Pair[]> {
  const steps = await openProtectedSteps(config, options);
  const pairs: Pair[] = [];
  let step = 0;
  const takePair = async (): Promise<Pair> => {
    const order = step % 2 === 0 ? armNames : armNames.toReversed();
    const taken = new Map<ArmName, TakenStep>();
    for (const arm of order) taken.set(arm, await steps.take(arm, step));
    const pair = { "with protection": stepOf(taken, "with protection"), "without": stepOf(taken, "without") };
    checkPair(pair, step++);
    return pair;
  };
  const checkStates = async () => {
    const [ours, bare] = [await steps.state("with protection", step), await steps.state("without", step)];
    if (ours !== bare) {
      throw new Error(`after ${step} steps the states differ: ${ours} with protection, ${bare} without`);
    }
  };
  for (let i = 0; i < WARM_UP; i++) await takePair();
  await checkStates();
  for (let i = 0; i < count; i++) pairs.push(await takePair());
  await checkStates();
  checkSigns(await steps.close(), step);
  return pairs;
}

function stepOf(taken: ReadonlyMap<ArmName, TakenStep>, arm: ArmName): TakenStep {
  const step = taken.get(arm);
  if (step === undefined) throw new Error(`no step ${arm} was taken`);
  return step;
}

/** A pair computed the same, and only one of them tells what it began with. */
function checkPair({ "with protection": guarded, "without": bare }: Pair, step: number): void {
  if (!Object.is(guarded.loss, bare.loss) || !Number.isFinite(bare.loss)) {
    throw new Error(`the loss of step ${step} is ${guarded.loss} with protection and ${bare.loss} without`);
  }
  if (!/^[\da-f]{32}$/.test(guarded.weights) || bare.weights !== "") {
    throw new Error(`step ${step}: fingerprints "${guarded.weights}" with protection and "${bare.weights}" without`);
  }
}

/** Every protected step was written down and its actors beat; of the other arm nothing was seen. */
function checkSigns(signs: Record<ArmName, SignsOfProtection>, steps: number): void {
  const { "with protection": guarded, "without": bare } = signs;
  if (guarded.commits !== steps || guarded.heartbeats === 0 || guarded.pulses < steps) {
    throw new Error(`${steps} protected steps gave ${JSON.stringify(guarded)}: some protection was missing`);
  }
  if (bare.commits + bare.heartbeats + bare.pulses > 0) {
    throw new Error(`steps without protection gave ${JSON.stringify(bare)}: some protection was there`);
  }
}

/**
 * Entries of both arms' times, and of the paired differences with their 95% interval and their share of a step without: of
 * the whole step, of what it used of the processor, and of its phases.
 */
export function costEntries(name: string, pairs: readonly Pair[]): Entry[] {
  const wholeMs = summarize(pairs.map((pair) => pair.without.ms)).median;
  const cpuMs = summarize(pairs.map((pair) => pair.without.cpuMs)).median;
  return [
    ...entriesOf(`${name}: time`, pairs, { of: wholeMs, value: ({ ms }) => ms }),
    ...entriesOf(`${name}: processor time`, pairs, { of: cpuMs, value: ({ cpuMs }) => cpuMs }),
    ...phaseNames.flatMap((phase) =>
      entriesOf(`${name}: ${phase}`, pairs, { of: wholeMs, value: ({ phases }) => phases[phase] })
    ),
  ];
}

function entriesOf(
  name: string,
  pairs: readonly Pair[],
  { of, value }: { of: number; value(step: TakenStep): number },
): Entry[] {
  const common = { suite: "protection", better: "lower", error: 0 } as const;
  const [guarded, bare] = armNames.map((arm) => pairs.map((pair) => value(pair[arm])));
  const differences = guarded.map((ms, index) => ms - bare[index]), interval = medianInterval(differences);
  const range = rangeText({ low: 100 * interval.low / of, high: 100 * interval.high / of }, "%");
  return [
    { ...common, name, arm: "with protection", unit: "ms", ...summarize(guarded) },
    { ...common, name, arm: "without", unit: "ms", ...summarize(bare) },
    {
      ...common,
      name: `${name}, paired difference`,
      arm: "ours",
      unit: "ms",
      ...summarize(differences),
      note: rangeText(interval, "ms"),
    },
    {
      ...common,
      name: `${name}, share of the step`,
      arm: "ours",
      unit: "%",
      ...summarize(differences.map((ms) => 100 * ms / of)),
      note: range,
    },
  ];
}

function rangeText({ low, high }: Interval, unit: string): string {
  return `95% interval of the median ${low.toFixed(2)} … ${high.toFixed(2)} ${unit}`;
}
