/**
 * Takes one run through faults, one after the other, each at its exact moment and none before the run has got over the one
 * before; then compares with a run that nothing happened to, step by step and in the final weights.
 */
import { type ClusterOptions, runCluster, type RunOutcome } from "../actors/cluster.ts";
import type { RunEvent, RunFailure } from "../actors/events.ts";
import { workerId } from "../actors/trainer.ts";
import { Breakpoints, type Stoppable } from "./breakpoints.ts";
import { type Cell, mayRestart, moments, nameOf } from "./fault_cells.ts";
import { endOf, localHostOptions, startJoinedHost } from "./joined_host.ts";
import { KeptRun, type KeptRunOptions } from "./kept_run.ts";
import { actsOnLoss, type Comparison, digestInPeace, RunWatch } from "./run_watch.ts";
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
export interface TourReport extends Comparison {
  readonly cells: readonly CellReport[];
}

const trainers = 2;
const stepsMax = 100_000;

/** Runs the model under the faults and then in peace. */
export async function faultTour(options: TourOptions): Promise<TourReport> {
  const { folder, cells, gpuEnvironment, peaceHere, log } = options;
  const hosts = cells.some(({ victim }) => victim === "joined host") ? 2 : 1;
  await using breakpoints = new Breakpoints();
  const joined: Deno.ChildProcess[] = [];
  const address = Promise.withResolvers<{ url: string; token: string }>();
  const tour = new Tour(breakpoints, {
    hosts,
    log,
    async join() {
      const id = `host-j${joined.length}`;
      const own = localHostOptions(await address.promise, { gpuEnvironment, breakpoints: breakpoints.address });
      joined.push(startJoinedHost(id, own));
      return id;
    },
    kept: (): KeptRun | undefined => run.kept,
  });
  const config = (name: string) =>
    smallConfig(folder, name, {
      steps: stepsMax,
      // One replica a trainer, so that the sums of a normalisation reach over both.
      replicas: trainers,
      syncBatchNormGroup: trainers,
      checkpoint: { everySteps: 2, keep: 2 },
      cluster: { trainers },
    });
  const { watch } = tour;
  const settings = { config: config("fire"), breakpoints: breakpoints.address, onEvent: tour.take.bind(tour) };
  const run: Running = cells.some(({ victim }) => victim === "controller")
    ? keptRun(settings)
    : runHere({ ...settings, hosts, gpuEnvironment, onListening: address.resolve });
  run.done.then((outcome) => watch.end(outcome.outcome === "failed" ? causeOf(outcome) : undefined));
  try {
    for (const cell of cells) await tour.go(cell);
  } catch (error) {
    watch.wrong.push(error instanceof Error ? error.message : String(error));
  } finally {
    run.stop();
  }
  const outcome = await run.done;
  await Promise.all(joined.map(endOf));
  const { reports, watch: { wrong } } = tour;
  if (outcome.outcome === "failed") {
    return { cells: reports, wrong, steps: 0, expected: "", found: causeOf(outcome) };
  }
  const { step, digest } = outcome;
  if (run.kept !== undefined) wrong.push(...run.kept.gaps(step));
  const expected = await digestInPeace(config("peace"), { step, watch, gpuEnvironment, here: peaceHere });
  return { cells: reports, wrong, steps: step, expected, found: digest };
}

/** A run, whoever has its controller. */
interface Running {
  readonly done: Promise<RunOutcome>;
  /** Ends it before its next step. */
  stop(): void;
  /** Where its controller is not this process. */
  readonly kept?: KeptRun;
}

function runHere(options: ClusterOptions): Running {
  const over = new AbortController();
  return { done: runCluster({ ...options, signal: over.signal }), stop: () => over.abort() };
}

function keptRun(options: KeptRunOptions): Running {
  const kept = new KeptRun(options);
  return { done: kept.done, stop: () => kept.stop(), kept };
}

function causeOf({ failure }: { failure: RunFailure }): string {
  return `${failure.actor}: ${failure.error}`;
}

/** A blow that has fallen, until the run is over it. */
interface Shot {
  readonly cell: Cell;
  readonly at: number;
  /** The first step that had not counted. */
  furthest: number;
  /** Whether all started anew. */
  anew: boolean;
  acted?: number;
  recovered?: number;
  repeated: number;
}

/** One run under fire. */
class Tour {
  readonly reports: CellReport[] = [];
  readonly watch = new RunWatch();
  #joining: readonly string[] = [];
  /** The host that has joined last. */
  #joined = "";
  #shot: Shot | undefined;

  constructor(
    private readonly breakpoints: Breakpoints,
    private readonly options: {
      /** How many there are to be. */
      hosts: number;
      log: (line: string) => void;
      /** Has a host join; resolves to its name. */
      join(): Promise<string>;
      /** The run, where its controller is a process that may be hit. */
      kept(): KeptRun | undefined;
    },
  ) {}

  take(event: RunEvent): void {
    const { next } = this.watch;
    this.watch.take(event, () => this.#note(event, next));
  }

  /** Takes the run through one fault. */
  async go(cell: Cell): Promise<void> {
    const { watch } = this;
    if (this.options.hosts > 1 && !watch.hosts.has(this.#joined)) this.#joined = await this.options.join();
    await watch.until(() => watch.seats.length === trainers && watch.took === trainers, `${trainers} trainers`);
    try {
      const stands = await this.#reach(cell);
      await this.#strike(cell, stands);
      await watch.until(() => this.#shot?.recovered !== undefined, "a new step");
    } catch (error) {
      throw new Error(`${nameOf(cell)}: ${error instanceof Error ? error.message : error}`, { cause: error });
    }
    const shot = this.#shot;
    this.#shot = undefined;
    if (shot?.acted === undefined || shot.recovered === undefined) return;
    const outcome = shot.anew ? "all anew" : "mended";
    const report = {
      cell,
      outcome,
      actedMs: shot.acted - shot.at,
      recoveredMs: shot.recovered - shot.at,
      repeated: shot.repeated,
    } as const;
    this.reports.push(report);
    if (outcome === "all anew" && !mayRestart(cell)) watch.wrong.push(`${nameOf(cell)}: all started anew`);
    const [acted, recovered] = [report.actedMs, report.recoveredMs].map((ms) => `${ms.toFixed(0)} ms`);
    this.options.log(`${nameOf(cell)}: ${outcome}, acted on after ${acted}, new step after ${recovered}`);
  }

  /** Waits until the phase has come; whoever shows it stands still. */
  async #reach({ victim, phase }: Cell): Promise<Stoppable> {
    const moment = moments[phase];
    if (moment.watch === "controller") {
      if (phase === "takeover") await this.#loseController();
      return await this.#kept.standsAt(moment.at);
    }
    const { watch, at } = moment;
    const { seats, acted } = this.watch;
    const [first, other] = [seats[0], seats[seats.length - 1]];
    if (watch !== "newcomer") {
      const trainer = victim === "other trainer" || victim === "gpu worker" ? other : first;
      return await this.breakpoints.reached(watch === "trainer" ? trainer : watch, at);
    }
    const lost = this.breakpoints.processOf(other);
    if (lost === undefined) throw new Error(`${other} is not there`);
    Deno.kill(lost.pid, "SIGKILL");
    await lost.ended;
    const stands = this.breakpoints.reached(other, at);
    // Its loss is not the one that is measured.
    await Promise.all([stands, this.watch.until(() => this.watch.acted > acted, `the loss of ${other}`)]);
    this.#joining = [other];
    return await stands;
  }

  /** Kills the controller just after a step, so that another takes over: a loss that is not the one that is measured. */
  async #loseController(): Promise<void> {
    const { next } = this.watch;
    await this.watch.until(() => this.watch.next > next, "a step");
    const { pid, ended } = this.#kept.controller;
    Deno.kill(pid, "SIGKILL");
    await ended;
    this.watch.takenOver();
  }

  async #strike(cell: Cell, stands: Stoppable): Promise<void> {
    const { victim, blow } = cell;
    const id = this.#idOf(cell);
    const actor = victim === "controller" ? this.#kept.controller : this.breakpoints.processOf(id);
    const pid = actor?.pid ?? this.watch.pids.get(id);
    if (pid === undefined) throw new Error(`${id} is not there`);
    const shot: Shot = { cell, at: performance.now(), furthest: this.watch.next, repeated: 0, anew: false };
    this.#shot = shot;
    if (victim === "gpu worker") actor?.cut([workerId]);
    else if (blow === "cut off") actor?.cut(["sync-0"]);
    else if (blow !== "stuck") Deno.kill(pid, blow === "frozen" ? "SIGSTOP" : "SIGKILL");
    if (blow === "killed" && victim !== "gpu worker") await actor?.ended;
    // Who lives goes on where it stood.
    if (stands.id !== id || blow === "cut off" || victim === "gpu worker") stands.go();
    if (victim !== "controller") return;
    // Its launcher ends one that stands still. What it told last has come then; the last commit it may not have told.
    await actor?.ended;
    this.watch.takenOver();
    shot.furthest = this.watch.next;
  }

  get #kept(): KeptRun {
    const kept = this.options.kept();
    if (kept === undefined) throw new TypeError("the run's controller must be a process of its own");
    return kept;
  }

  #idOf({ victim }: Cell): string {
    switch (victim) {
      case "trainer of replica 0":
        return this.watch.seats[0];
      case "other trainer":
      case "gpu worker":
        return this.watch.seats[this.watch.seats.length - 1];
      case "newcomer":
        return this.#joining[0];
      case "loader":
        return "loader-0";
      case "sync shard":
        return "sync-0";
      case "local host":
        return "host-0";
      case "joined host":
        return this.#joined;
      default:
        return victim;
    }
  }

  /** What an event says of the blow that has fallen; `due` is the step that was due before it. */
  #note(event: RunEvent, due: number): void {
    const shot = this.#shot;
    if (shot === undefined) return;
    if (actsOnLoss(event) || event.kind === "adopted") shot.acted ??= performance.now();
    if (event.kind === "starting") shot.anew = true;
    if (event.kind === "resumed") shot.repeated = Math.max(0, due - event.step);
    const isNew = event.kind === "step" && event.record.step >= shot.furthest;
    if (isNew && shot.acted !== undefined) shot.recovered ??= performance.now();
  }
}
