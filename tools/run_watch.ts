/**
 * Watches a run under fire by its events: who takes part, whether its steps come in order and each with the loss that it
 * had before; waits until something holds; and compares with a run that nothing happened to.
 */
import { deadline } from "@std/async/deadline";
import { runCluster } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import type { TrainConfig } from "../config.ts";

const patienceMs = 90_000;

/** Whether an event tells that a loss is acted on. */
export function actsOnLoss(event: RunEvent): boolean {
  return ["restarting", "newcomer-lost", "host-lost"].includes(event.kind) ||
    event.kind === "regrouping" && event.failure !== null;
}

/** One run, as its events tell it. */
export class RunWatch {
  /** What must not be, in words. */
  readonly wrong: string[] = [];
  /** By step. */
  readonly losses: number[] = [];
  readonly pids = new Map<string, number>();
  /** Trainers with replicas, in the order of these. */
  seats: readonly string[] = [];
  /** Hosts that are there. */
  readonly hosts = new Set<string>();
  /** The step that is due. */
  next = 0;
  /** How many trainers took the newest step. */
  took = 0;
  /** Times that all actors started anew. */
  restarts = 0;
  /** Losses that the controller acted on. */
  acted = 0;
  #ended: string | undefined;
  #waiting: () => void = () => {};
  /** Set when another controller has taken over, which may not have told of the last step. */
  #takenOver = false;

  /** Takes one event; `after` sees it before whoever waits. */
  take(event: RunEvent, after: () => void = () => {}): void {
    this.#note(event);
    after();
    this.#waiting();
  }

  /** The run is over; `failure` is why, if it failed. */
  end(failure?: string): void {
    this.#ended = failure ?? "it is over";
    this.#waiting();
  }

  /** Another process has taken the run over. */
  takenOver(): void {
    this.#takenOver = true;
  }

  /**
   * Resolves when the condition holds; it is looked at after each event.
   *
   * @throws {Error} when the run ends before, or nothing comes of it for 90 s.
   */
  async until(holds: () => boolean, what: string): Promise<void> {
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

  #note(event: RunEvent): void {
    switch (event.kind) {
      case "started":
        this.pids.set(event.actor, event.pid);
        break;
      case "host-joined":
        this.hosts.add(event.host);
        break;
      case "starting":
        this.seats = event.actors.map(({ id }) => id).filter((id) => id.startsWith("trainer-"));
        break;
      case "regrouping":
        this.seats = event.trainers;
        for (const id of event.lost) this.hosts.delete(id);
        if (event.failure !== null) this.acted++;
        break;
      case "restarting":
        this.restarts++;
        this.acted++;
        this.hosts.delete(event.failure.actor);
        break;
      case "host-lost":
        this.acted++;
        this.hosts.delete(event.failure.actor);
        break;
      case "resumed":
        this.next = event.step;
        break;
      case "commit":
        this.took = event.record.trainers;
        break;
      case "step":
        this.#step(event.record);
        break;
    }
  }

  #step({ step, loss }: { step: number; loss: number }): void {
    const due = step === this.next || this.#takenOver && step === this.next + 1;
    if (!due) this.wrong.push(`step ${step} came where ${this.next} was due`);
    this.#takenOver = false;
    this.next = step + 1;
    const before = this.losses[step];
    if (before !== undefined && before !== loss) {
      this.wrong.push(`step ${step} had the loss ${before}, taken again ${loss}`);
    }
    this.losses[step] = loss;
  }
}

/** A run that something happened to, beside one in peace. */
export interface Comparison {
  /** What must not be, in words. */
  readonly wrong: readonly string[];
  readonly steps: number;
  /** SHA-256 of the weights of the run in peace. */
  readonly expected: string;
  readonly found: string;
}

/**
 * The digest that a run has before `step` when nothing happens to it; losses that `watch` saw and that are others there are
 * told to it.
 *
 * @throws {Error} when that run fails.
 */
export async function digestInPeace(
  config: TrainConfig,
  { step, watch, gpuEnvironment, here = false }: {
    step: number;
    watch: RunWatch;
    gpuEnvironment: Readonly<Record<string, string>>;
    /** Whether this process can compute it, which is faster. @default false */
    here?: boolean;
  },
): Promise<string> {
  const losses: number[] = [];
  const peace = await runCluster({
    config,
    gpuEnvironment,
    singleProcess: here,
    stopBeforeStep: step,
    onEvent: (event) => event.kind === "step" && losses.push(event.record.loss),
  });
  if (peace.outcome === "failed") throw new Error(`the run in peace failed: ${peace.failure.error}`);
  const other = losses.findIndex((loss, step) => watch.losses[step] !== undefined && loss !== watch.losses[step]);
  if (other >= 0) watch.wrong.push(`step ${other} has the loss ${watch.losses[other]}, in peace ${losses[other]}`);
  return peace.digest;
}
