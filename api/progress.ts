/**
 * Progress of a run for a person: one line that rewrites itself on a terminal, a plain line every few seconds elsewhere (so
 * that log files stay small), and whatever deserves a line of its own. It formats events and decides nothing.
 */
import type { ProbeRecord, RunEvent, StepRecord } from "../actors/events.ts";

/** Where and how progress is written. */
export interface ProgressOptions {
  /** Whether the line may be rewritten in place. */
  readonly terminal: boolean;
  /** Writes text as it is. */
  readonly write: (text: string) => void;
  /** Monotonic milliseconds. */
  readonly now: () => number;
  /** Least time between two plain lines. @default 5000 */
  readonly plainEveryMs?: number;
}

/** Prints the events of one run. */
export class Progress {
  #options: ProgressOptions;
  #lastPlainMs = -Infinity;
  #lineOpen = false;
  #speeds: number[] = [];

  constructor(options: ProgressOptions) {
    this.#options = options;
  }

  /** Takes one event. */
  show(event: RunEvent): void {
    switch (event.kind) {
      case "host-joined":
        return this.#line(`${event.host} joined: ${event.adapters.join("; ") || "no adapter listed"}`);
      case "starting":
        return this.#line(
          `starting ${event.actors.length} actors: ${event.actors.map((actor) => actor.id).join(", ")}`,
        );
      case "ready":
        return event.detail === "" ? undefined : this.#line(`${event.actor} ready: ${event.detail}`);
      case "resumed":
        for (const note of event.notes) this.#line(note);
        return this.#line(`resumed before step ${event.step}`);
      case "joining":
        return this.#line(`${event.actors.map(({ id, host }) => `${id} on ${host}`).join(", ")} will take part soon`);
      case "regrouping":
        return this.#line(regroupLine(event));
      case "newcomer-lost":
        return this.#line(`lost ${event.actor} before it took part: ${event.error.split("\n")[0]}`);
      case "host-lost":
        return this.#line(
          `lost ${event.failure.actor}, another takes its place: ${event.failure.error.split("\n")[0]}`,
        );
      case "commit":
        return;
      case "restarting":
        return this.#line(restartLine(event));
      case "saved":
        return this.#line(
          `checkpoint before step ${event.step}: ${event.folder} (SHA-256 ${event.digest.slice(0, 16)}…)`,
        );
      case "probe":
        return this.#line(probeLine(event.record));
      case "probe-skipped":
        return this.#line(skippedLine(event));
      case "evaluator-lost":
        return this.#line(evaluatorLine(event));
      case "refused":
        return this.#line(`refused ${event.count} connection${event.count === 1 ? "" : "s"}: ${event.reason}`);
      case "images-replaced":
        for (const image of event.images) {
          this.#line(`unreadable image ${image.file} replaced by ${image.replacement}: ${image.error}`);
        }
        return;
      case "step":
        return this.#step(event.record, event.steps);
      default:
        return this.#close();
    }
  }

  #step(record: StepRecord, steps: number): void {
    // The first step compiles kernels; a median over the latest ones is what the estimate should rest on.
    this.#speeds = [...this.#speeds, record.imagesPerSecond].slice(-15);
    const last = record.step + 1 === steps;
    const text = stepLine(record, { steps, imagesPerSecond: median(this.#speeds) });
    if (this.#options.terminal) {
      this.#options.write(`\r\x1b[2K${text}`);
      this.#lineOpen = true;
      if (last) this.#close();
      return;
    }
    const now = this.#options.now();
    if (!last && now - this.#lastPlainMs < (this.#options.plainEveryMs ?? 5000)) return;
    this.#lastPlainMs = now;
    this.#options.write(text + "\n");
  }

  #line(text: string): void {
    this.#close();
    this.#options.write(text + "\n");
  }

  #close(): void {
    if (this.#lineOpen) this.#options.write("\n");
    this.#lineOpen = false;
  }
}

/** A line for a change of who takes part. */
function regroupLine({ step, failure, joined, trainers }: Extract<RunEvent, { kind: "regrouping" }>): string {
  const share = `${trainers.length} ${trainers.length === 1 ? "trainer takes" : "trainers take"} step ${step}`;
  if (failure !== null) return `lost ${failure.actor} on ${failure.host}: ${failure.error.split("\n")[0]}; ${share}`;
  return joined.length === 0 ? share : `${joined.join(", ")} joined; ${share}`;
}

/** What was lost and what is done about it, in one line. */
export function restartLine(
  { failure, restart, restartsMax, delayMs }: Extract<RunEvent, { kind: "restarting" }>,
): string {
  const wait = delayMs === 0 ? "" : ` in ${Math.round(delayMs / 1000)} s`;
  const cause = failure.error.split("\n")[0];
  return `lost ${failure.actor} on ${failure.host}: ${cause}; restarting from the newest checkpoint${wait} ` +
    `(restart ${restart} of ${restartsMax} without a new step)`;
}

/** A probe's result in one line. */
export function probeLine({ step, probe, top1, seconds }: ProbeRecord): string {
  return `before step ${step}: ${probe} top-1 ${(100 * top1).toFixed(1)}% (${seconds.toFixed(0)} s)`;
}

/** Which snapshot has no result, and why, in one line. */
function skippedLine({ step, for: next }: Extract<RunEvent, { kind: "probe-skipped" }>): string {
  const why = next === null ? "the run ended first" : `the evaluator was busy until that of step ${next}`;
  return `the snapshot before step ${step} was not judged: ${why}`;
}

/** What became of the evaluator, in one line. */
export function evaluatorLine({ error, step, startsAnew }: Extract<RunEvent, { kind: "evaluator-lost" }>): string {
  const snapshot = step === null ? "" : ` at the snapshot before step ${step}`;
  const after = startsAnew ? "it starts anew" : "no more snapshots are judged; see logs/evaluator.log";
  return `lost the evaluator${snapshot}: ${error.split("\n")[0]}; training goes on, ${after}`;
}

/** One step in one line: step, loss, loss / ln K, learning rate, images/s, what the time went to, time left. */
export function stepLine(record: StepRecord, run: { steps: number; imagesPerSecond: number }): string {
  const stepsLeft = run.steps - record.step - 1;
  const stepSeconds = (record.dataMs + record.computeMs + record.syncMs) / 1000;
  const imagesPerStep = record.imagesPerSecond * stepSeconds;
  const secondsLeft = run.imagesPerSecond > 0 ? (stepsLeft * imagesPerStep) / run.imagesPerSecond : 0;
  return [
    `step ${String(record.step + 1).padStart(String(run.steps).length)}/${run.steps}`,
    `loss ${record.loss.toFixed(4)}`,
    `loss/ln K ${record.lossOverLnK.toFixed(3)}`,
    ...(record.top1 === undefined ? [] : [`top-1 ${(100 * record.top1).toFixed(1)}%`]),
    `lr ${record.learningRate.toPrecision(3)}`,
    ...(record.lossScale === undefined ? [] : [`loss scale 2^${Math.log2(record.lossScale)}`]),
    `${record.imagesPerSecond.toFixed(0)} images/s`,
    `data ${record.dataMs.toFixed(0)} compute ${record.computeMs.toFixed(0)} sync ${record.syncMs.toFixed(0)} ms`,
    `left ${duration(secondsLeft)}`,
  ].join("  ");
}

/** `75` → `1:15`, `3725` → `1:02:05`. */
export function duration(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds));
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const shown = parts[0] > 0 ? parts : parts.slice(1);
  return shown.map((part, index) => (index === 0 ? String(part) : String(part).padStart(2, "0"))).join(":");
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? 0;
}
