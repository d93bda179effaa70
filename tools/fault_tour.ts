/**
 * Takes one run through faults, one after the other, each at its exact moment and none before the run has got over the one
 * before; then compares with a run that nothing happened to, step by step and in the final weights.
 */
import { deadline } from "@std/async/deadline";
import { runCluster } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import { workerId } from "../actors/trainer.ts";
import { Breakpoints, type Stoppable } from "./breakpoints.ts";
import { type Cell, mayRestart, moments, nameOf } from "./fault_cells.ts";
import { smallConfig } from "./small_run.ts";

/** What a tour goes through and where. */
export interface TourOptions {
  /** Holds the images; the runs are written beside them. */
  readonly folder: string;
  readonly cells: readonly Cell[];
  /** Environment of processes that use the GPU. */
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  /** Whether this process can compute the run in peace itself, which is faster. @default false */
  readonly peaceHere?: boolean;
  readonly log: (line: string) => void;
}

/** What came of one fault. */
export interface CellReport {
  readonly cell: Cell;
  readonly outcome: "mended" | "all anew";
  /** Until the controller acted on it. */
  readonly actedMs: number;
  /** Until a step that had never been taken. */
  readonly recoveredMs: number;
  /** Steps taken again that had counted before. */
  readonly repeated: number;
}

/** What came of a tour. */
export interface TourReport {
  readonly cells: readonly CellReport[];
  /** What must not be, in words. */
  readonly wrong: readonly string[];
  readonly steps: number;
  readonly expected: string;
  readonly found: string;
}

const trainers = 2;
const stepsMax = 100_000;
const patienceMs = 90_000;

/** Runs the model under the faults and then in peace. */
export async function faultTour({ folder, cells, gpuEnvironment, peaceHere, log }: TourOptions): Promise<TourReport> {
  await using breakpoints = new Breakpoints();
  const tour = new Tour(breakpoints, log);
  const config = (name: string) =>
    smallConfig(folder, name, {
      steps: stepsMax,
      // One replica a trainer, so that the sums of a normalisation reach over both.
      replicas: trainers,
      syncBatchNormGroup: trainers,
      checkpoint: { everySteps: 2, keep: 2 },
      cluster: { trainers },
    });
  const over = new AbortController();
  const running = runCluster({
    config: config("fire"),
    gpuEnvironment,
    breakpoints: breakpoints.address,
    signal: over.signal,
    onEvent: (event) => tour.take(event),
  }).then((outcome) => {
    tour.end(outcome.outcome === "failed" ? `${outcome.failure.actor}: ${outcome.failure.error}` : undefined);
    return outcome;
  });
  try {
    for (const cell of cells) await tour.go(cell);
  } catch (error) {
    tour.wrong.push(String(error));
  } finally {
    over.abort();
  }
  const outcome = await running;
  if (outcome.outcome === "failed") {
    return { cells: tour.reports, wrong: tour.wrong, steps: 0, expected: "", found: outcome.failure.error };
  }
  const { step, digest } = outcome;
  const losses: number[] = [];
  const peace = await runCluster({
    config: config("peace"),
    gpuEnvironment,
    singleProcess: peaceHere,
    stopBeforeStep: step,
    onEvent: (event) => event.kind === "step" && losses.push(event.record.loss),
  });
  if (peace.outcome === "failed") throw new Error(`the run in peace failed: ${peace.failure.error}`);
  const other = losses.findIndex((loss, step) => loss !== tour.losses[step]);
  if (other >= 0) tour.wrong.push(`step ${other} has the loss ${tour.losses[other]}, in peace ${losses[other]}`);
  return { cells: tour.reports, wrong: tour.wrong, steps: step, expected: peace.digest, found: digest };
}

/** A blow that has fallen, until the run is over it. */
interface Shot {
  readonly cell: Cell;
  readonly at: number;
  readonly furthest: number;
  acted?: number;
  recovered?: number;
  anew: boolean;
  repeated: number;
}

/** One run under fire, as its events tell it. */
class Tour {
  readonly reports: CellReport[] = [];
  readonly wrong: string[] = [];
  /** By step. */
  readonly losses: number[] = [];
  readonly #pids = new Map<string, number>();
  /** Trainers with replicas, in the order of these. */
  #seats: readonly string[] = [];
  #joining: readonly string[] = [];
  #next = 0;
  /** How many trainers took the newest step. */
  #took = 0;
  #restarts = 0;
  #regroupings = 0;
  #shot: Shot | undefined;
  #ended: string | undefined;
  #waiting: () => void = () => {};

  constructor(private readonly breakpoints: Breakpoints, private readonly log: (line: string) => void) {}

  take(event: RunEvent): void {
    switch (event.kind) {
      case "started":
        this.#pids.set(event.actor, event.pid);
        break;
      case "starting":
        this.#seats = event.actors.map(({ id }) => id).filter((id) => id.startsWith("trainer-"));
        break;
      case "regrouping":
        this.#seats = event.trainers;
        if (event.failure !== null) this.#acted();
        this.#regroupings++;
        break;
      case "newcomer-lost":
        this.#acted();
        break;
      case "restarting":
        this.#restarts++;
        this.#acted();
        if (this.#shot !== undefined) this.#shot.anew = true;
        break;
      case "resumed":
        if (this.#shot?.anew) this.#shot.repeated = Math.max(0, this.#next - event.step);
        this.#next = event.step;
        break;
      case "commit":
        this.#took = event.record.trainers;
        break;
      case "step":
        this.#step(event.record);
        break;
    }
    this.#waiting();
  }

  end(failure: string | undefined): void {
    this.#ended = failure ?? "it is over";
    this.#waiting();
  }

  /** Takes the run through one fault. */
  async go(cell: Cell): Promise<void> {
    await this.#until(() => this.#seats.length === trainers && this.#took === trainers, `${trainers} trainers`);
    const restarts = this.#restarts;
    try {
      const stands = await this.#reach(cell);
      await this.#strike(cell, stands);
      await this.#until(() => this.#shot?.recovered !== undefined, "a new step");
    } catch (error) {
      throw new Error(`${nameOf(cell)}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
    const shot = this.#shot;
    this.#shot = undefined;
    if (shot?.acted === undefined || shot.recovered === undefined) return;
    const outcome = this.#restarts > restarts ? "all anew" : "mended";
    const report = {
      cell,
      outcome,
      actedMs: shot.acted - shot.at,
      recoveredMs: shot.recovered - shot.at,
      repeated: shot.repeated,
    } as const;
    this.reports.push(report);
    if (outcome === "all anew" && !mayRestart(cell)) this.wrong.push(`${nameOf(cell)}: all started anew`);
    const [acted, recovered] = [report.actedMs, report.recoveredMs].map((ms) => `${ms.toFixed(0)} ms`);
    this.log(`${nameOf(cell)}: ${outcome}, acted on after ${acted}, new step after ${recovered}`);
  }

  /** Waits until the phase has come; whoever shows it stands still. */
  async #reach({ victim, phase }: Cell): Promise<Stoppable> {
    const { watch, at } = moments[phase];
    const [first, other] = [this.#seats[0], this.#seats[this.#seats.length - 1]];
    if (watch !== "newcomer") {
      const trainer = victim === "other trainer" || victim === "gpu worker" ? other : first;
      return await this.breakpoints.reached(watch === "trainer" ? trainer : watch, at);
    }
    const regroupings = this.#regroupings;
    const lost = this.breakpoints.processOf(other);
    if (lost === undefined) throw new Error(`${other} is not there`);
    Deno.kill(lost.pid, "SIGKILL");
    await lost.ended;
    const stands = this.breakpoints.reached(other, at);
    // Its loss is not the one that is measured.
    await Promise.all([stands, this.#until(() => this.#regroupings > regroupings, `the loss of ${other}`)]);
    this.#joining = [other];
    return await stands;
  }

  async #strike(cell: Cell, stands: Stoppable): Promise<void> {
    const { victim, blow } = cell;
    const id = this.#idOf(cell);
    const actor = this.breakpoints.processOf(id);
    const pid = actor?.pid ?? this.#pids.get(id);
    if (pid === undefined) throw new Error(`${id} is not there`);
    this.#shot = { cell, at: performance.now(), furthest: this.#next, anew: false, repeated: 0 };
    if (victim === "gpu worker") actor?.cut([workerId]);
    else if (blow === "cut off") actor?.cut(["sync-0"]);
    else if (blow !== "stuck") Deno.kill(pid, blow === "frozen" ? "SIGSTOP" : "SIGKILL");
    if (blow === "killed" && victim !== "gpu worker") await actor?.ended;
    // Who lives goes on where it stood.
    if (stands.id !== id || blow === "cut off" || victim === "gpu worker") stands.go();
  }

  #idOf({ victim }: Cell): string {
    switch (victim) {
      case "trainer of replica 0":
        return this.#seats[0];
      case "other trainer":
      case "gpu worker":
        return this.#seats[this.#seats.length - 1];
      case "newcomer":
        return this.#joining[0];
      case "loader":
        return "loader-0";
      case "sync shard":
        return "sync-0";
      case "local host":
        return "host-0";
      default:
        return victim;
    }
  }

  #acted(): void {
    if (this.#shot !== undefined) this.#shot.acted ??= performance.now();
  }

  #step({ step, loss }: { step: number; loss: number }): void {
    if (step !== this.#next) this.wrong.push(`step ${step} came where ${this.#next} was due`);
    this.#next = step + 1;
    if (step < this.losses.length && this.losses[step] !== loss) {
      this.wrong.push(`step ${step} had the loss ${this.losses[step]}, taken again ${loss}`);
    }
    this.losses[step] = loss;
    const shot = this.#shot;
    if (shot?.acted !== undefined && step >= shot.furthest) shot.recovered ??= performance.now();
  }

  async #until(holds: () => boolean, what: string): Promise<void> {
    const came = Promise.withResolvers<void>();
    this.#waiting = () => {
      if (holds()) came.resolve();
      else if (this.#ended !== undefined) came.reject(new Error(`the run ended (${this.#ended}) before ${what}`));
    };
    this.#waiting();
    try {
      await deadline(came.promise, patienceMs);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new Error(`no ${what} within ${patienceMs} ms`, { cause: error });
    } finally {
      this.#waiting = () => {};
    }
  }
}
