/**
 * The arithmetic between steps: the learning rate of a step, the record of a step from its trainers' reports, the plateau
 * schedule's memory. Pure functions.
 */
import { choiceCount, type TrainConfig } from "../config.ts";
import { PLATEAU_START, plateauHalving, type PlateauState, warmupConstant, warmupCosine } from "../optim/schedule.ts";
import type { Message } from "../wire/messages.ts";
import { type ControllerState, tailOf } from "./controller_state.ts";
import type { CommitRecord, StepRecord } from "./events.ts";
import type { Cause } from "./watch.ts";

/** Most steps whose losses are remembered, for runs that are rarely saved. */
const rememberedMax = 4_096;

/** A trainer's report of a step. */
export type StepDone = Extract<Message, { type: "prepared" }>;

/** The learning rate of step `step` of `steps`. */
export function learningRateAt(
  config: TrainConfig,
  step: number,
  run: { readonly steps: number; readonly plateau: PlateauState },
): number {
  const { name, learningRate: peak, warmupSteps, warmupStart: start, endFactor } = config.schedule;
  if (name === "cosine") {
    return warmupCosine(step, { start, peak, end: endFactor * peak, warmupSteps, totalSteps: run.steps });
  }
  const constant = warmupConstant(step, { start: warmupSteps === 0 ? peak : start, peak, warmupSteps });
  return name === "plateau" ? constant * run.plateau.factor : constant;
}

/** The plateau schedule's memory: after a loss, and out of a checkpoint. */
export const nextPlateau = {
  after(config: TrainConfig, state: PlateauState, loss: number): PlateauState {
    return config.schedule.name === "plateau" ? plateauHalving(state, loss, config.schedule.plateau) : state;
  },
  parse(progress: Readonly<Record<string, unknown>>): PlateauState {
    const plateau = progress.plateau;
    if (typeof plateau !== "object" || plateau === null) return PLATEAU_START;
    const numbers = Object.entries(plateau).filter((entry): entry is [string, number] => typeof entry[1] === "number");
    return { ...PLATEAU_START, ...Object.fromEntries(numbers) };
  },
};

/** Joins the trainers' reports of one step; losses are added in order of replicas, so that the record never depends on arrival. */
export function mergeReports(
  reports: readonly StepDone[],
  step: {
    readonly config: TrainConfig;
    readonly learningRate: number;
    readonly perplexity: number;
    readonly stepsPerEpoch: number;
    readonly stepMs: number;
    readonly elapsedMs: number;
  },
): StepRecord {
  const { config } = step;
  const replicas = reports.flatMap((report) => report.replicas).sort((a, b) => a.replica - b.replica);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const loss = mean(replicas.map((row) => row.loss));
  const most = (pick: (report: StepDone) => number) => Math.max(...reports.map(pick));
  return {
    step: reports[0].step,
    epoch: Math.floor(reports[0].step / step.stepsPerEpoch),
    loss,
    lossOverLnK: loss / Math.log(choiceCount(config)),
    learningRate: step.learningRate,
    imagesPerSecond: (config.replicas * config.batchPerReplica) / (step.stepMs / 1000),
    dataMs: most((report) => report.dataMs),
    computeMs: most((report) => report.computeMs),
    syncMs: most((report) => report.syncMs),
    prototypePerplexity: step.perplexity,
    embeddingDeviation: mean(replicas.map((row) => row.embeddingDeviation)),
    ...top1Of(replicas, mean),
    deviceBytes: most((report) => report.deviceBytes),
    ...memoryOf(reports),
    ...lossScaleOf(reports),
    elapsedMs: step.elapsedMs,
  };
}

/** The record of the step that every trainer has reported, at `now`. */
export function stepRecord(
  state: ControllerState,
  { config, perplexity, now }: { config: TrainConfig; perplexity: number; now: number },
): StepRecord {
  return mergeReports([...state.reports.values()], {
    config,
    learningRate: state.learningRate,
    perplexity,
    stepsPerEpoch: state.stepsPerEpoch,
    stepMs: now - state.stepAt,
    elapsedMs: now - state.firstStepAt,
  });
}

/**
 * Remembers the step that every trainer has reported; if it was taken before, its losses must be the same numbers, whoever
 * took it. The failure of the trainer whose first differing replica it is, when they are not.
 */
export function repetitionFault(state: ControllerState): Cause | undefined {
  const reports = [...state.reports].flatMap(([trainer, { replicas }]) =>
    replicas.map(({ replica, loss }) => ({ trainer, replica, loss }))
  ).sort((a, b) => a.replica - b.replica);
  const before = state.taken.get(state.step);
  state.taken.set(state.step, reports.map(({ loss }) => loss));
  // No restart goes behind the newest checkpoint.
  const oldest = Math.max(state.saved?.step ?? 0, state.step - rememberedMax);
  for (const step of state.taken.keys()) if (step < oldest) state.taken.delete(step);
  const other = before && reports.find(({ loss }, i) => !Object.is(loss, before[i]));
  if (before === undefined || other === undefined) return undefined;
  const { trainer, replica, loss } = other;
  const error = `step ${state.step}, taken again, gave replica ${replica} the loss ${loss}, before ${
    before[reports.indexOf(other)]
  }: either trainer computed something wrong; check memory and driver of its device, and of the one that had the replica before`;
  return { actor: trainer, error, lines: tailOf(state, trainer) };
}

/**
 * Whose weights are not those of the others, by the fingerprints of the weights that the step began with: all but the
 * largest group of equals. `sure` is false when no group is larger than the others: nobody knows then who is right.
 */
export function strayTrainers(state: ControllerState): { strays: string[]; sure: boolean } {
  const groups = new Map<string, string[]>();
  for (const [trainer, { weights }] of state.reports) groups.set(weights, [...groups.get(weights) ?? [], trainer]);
  const [largest, second] = [...groups.values()].sort((a, b) => b.length - a.length);
  const strays = [...state.reports.keys()].filter((id) => !largest?.includes(id));
  return { strays, sure: second === undefined || second.length < largest.length };
}

/** The failure of the first trainer whose weights are not those of the others. */
export function strayCause(state: ControllerState, [actor]: readonly string[]): Cause {
  const list = [...state.reports].map(([id, { weights }]) => `${id} ${weights.slice(0, 8)}`).join(", ");
  const error = `trainers differ in their weights before step ${state.step}: ${list}; check the memory of its device`;
  return { actor, error, lines: tailOf(state, actor) };
}

/** The line of the commit log of the step that every trainer has prepared. */
export function commitRecord(state: ControllerState, config: TrainConfig, metrics: StepRecord): CommitRecord {
  const { step, epoch, stepsPerEpoch, reports, steps, images: all } = state;
  const images = config.replicas * config.batchPerReplica;
  const [{ weights }] = reports.values();
  return {
    step,
    epoch,
    weights,
    samples: { epoch: Math.floor(step / stepsPerEpoch), first: (step % stepsPerEpoch) * images, count: images },
    trainers: state.seats.length,
    run: { steps, stepsPerEpoch, images: all, plateau: { ...nextPlateau.after(config, state.plateau, metrics.loss) } },
    metrics,
  };
}

/** What to do about a loss that is no number. */
export function lossFault(config: TrainConfig, { step, loss }: Pick<StepRecord, "step" | "loss">): string {
  return `the loss of step ${step} is ${loss}: ${divergenceRemedy(config)}`;
}

/** What to do about weights that are no numbers, of which no checkpoint was written. */
export function weightsFault(config: TrainConfig, { step, name }: { step: number; name: string }): string {
  return `the weights before step ${step} are no numbers (${name}), and no checkpoint of them was written: ${
    divergenceRemedy(config)
  }`;
}

function divergenceRemedy({ method }: TrainConfig): string {
  const remedy = { swav: "raise sinkhorn.epsilon", simclr: "raise loss.temperature" };
  const other = method.name === "swav" || method.name === "simclr" ? ` or ${remedy[method.name]}` : "";
  return `lower schedule.learningRate${other}`;
}

/** Of methods that learn from labels. */
function top1Of(rows: StepDone["replicas"], mean: (values: readonly number[]) => number): Partial<StepRecord> {
  const shares = rows.flatMap(({ top1 }) => top1 === undefined ? [] : [top1]);
  return shares.length === 0 ? {} : { top1: mean(shares) };
}

/** Of the trainer with the highest peak, the first of equals. */
function memoryOf(reports: readonly StepDone[]): Partial<StepRecord> {
  const { memory } = reports.reduce((most, report) => report.deviceBytes > most.deviceBytes ? report : most);
  return memory === undefined ? {} : { memory };
}

/** All trainers have one loss scale, because all see the same sums. */
function lossScaleOf([{ lossScale, skippedSteps }]: readonly StepDone[]): Partial<StepRecord> {
  return lossScale === undefined ? {} : { lossScale, skippedSteps };
}
