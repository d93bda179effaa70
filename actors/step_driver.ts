/**
 * Drives the steps of a run while its actors are in place: what comes before a step, the step, its commit, checkpoints
 * beside it. A step counts once every trainer has prepared it; the commit is written down before anybody hears of it.
 * What a loss leads to is the controller's business.
 */
import type { TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import { type ControllerOptions, type ControllerPorts, type ControllerState, missing } from "./controller_state.ts";
import { noteProgress } from "./recovery.ts";
import * as probing from "./probing.ts";
import { allGone, atBorder, caughtUp, type Change, observers } from "./regroup.ts";
import type { Effect } from "./runtime/behavior.ts";
import { saveOrders } from "./start_orders.ts";
import {
  commitRecord,
  learningRateAt,
  lossFault,
  nextPlateau,
  repetitionFault,
  type StepDone,
  stepRecord,
  strayCause,
  strayTrainers,
  weightsFault,
} from "./step_record.ts";
import { alarm, type Cause } from "./watch.ts";

/** What the driver leaves to the controller. */
export interface Outcomes {
  /** All steps are taken and saved, or the run was interrupted. */
  end(state: ControllerState): Effect[];
  /** Somebody failed; `strays` are all who did, and without `mendable` nobody's state is to be trusted. */
  fail(state: ControllerState, cause: Cause, about?: { strays?: readonly string[]; mendable?: boolean }): Effect[];
  giveUp(state: ControllerState, cause: Cause): Effect[];
  regroup(state: ControllerState, change: Change): Effect[];
}

/** Decisions about steps; all that changes is in the state given to each call. */
export class StepDriver {
  constructor(
    readonly options: ControllerOptions,
    readonly ports: ControllerPorts,
    private readonly outcomes: Outcomes,
  ) {}

  get #config(): TrainConfig {
    return this.options.config;
  }

  /** Starts the step that `state.step` names, or what has to come before it, or the end. */
  next(state: ControllerState): Effect[] {
    const { everySteps } = this.#config.checkpoint;
    const over = state.step >= state.steps || state.interrupted;
    const due = over || state.owed || probing.probeDue(this.#config, state) && state.stepsTaken > 0 ||
      (everySteps > 0 && state.step > 0 && state.step % everySteps === 0 && state.stepsTaken > 0);
    const known = state.saved?.step === state.step;
    // A step that is taken again may have its checkpoint under way.
    const underWay = !over && state.saving === state.step;
    // One checkpoint at a time: the next waits for the one being written; training goes on beside it until then.
    state.heldBack = due && !known && !underWay && state.saving !== undefined;
    if (state.heldBack) return [];
    if (over) return known ? this.outcomes.end(state) : this.#save(state);
    const change = this.#membershipChange(state);
    if (change !== undefined) return this.outcomes.regroup(state, change);
    const { effects, hold } = atBorder(state, this.ports.now());
    state.held = hold;
    if (hold) return effects;
    const save = due && !known && !underWay ? this.#save(state) : [];
    return [...save, ...effects, ...this.#order(state)];
  }

  #order(state: ControllerState): Effect[] {
    state.stepAt = this.ports.now();
    state.stepping = true;
    state.lacking = undefined;
    state.learningRate = learningRateAt(this.#config, state.step, { steps: state.steps, plateau: state.plateau });
    const { step, epoch, learningRate } = state;
    const watching = observers(state);
    const message: Message = {
      type: "step",
      step,
      epoch,
      learningRate,
      ...(watching.length === 0 ? {} : { observers: watching }),
    };
    const orders = state.seats.map((seat): Effect => ({ kind: "send", to: seat.id, message }));
    return [...orders, alarm("step", this.#config.cluster.stepTimeoutMs)];
  }

  /** Who comes or goes at the border before the step, if anybody does. */
  #membershipChange(state: ControllerState): Change | undefined {
    const { hosts, lost } = allGone(state, { hosts: [...state.leaving].filter((host) => state.hosts.includes(host)) });
    const admitted = caughtUp(state);
    const stays = state.seats.some(({ id }) => !lost.includes(id));
    // A host that holds all replicas is needed until it is gone.
    if (state.leaving.size > 0 && hosts.length > 0 && stays) return { hosts, lost };
    return admitted.length > 0 ? { admitted } : undefined;
  }

  /** Has the state before step `state.step` written; training goes on meanwhile. */
  #save(state: ControllerState): Effect[] {
    state.saving = state.step;
    state.owed = false;
    return [...saveOrders(state), alarm("saving", this.#config.cluster.stepTimeoutMs)];
  }

  /** A checkpoint is on disk. */
  saved(state: ControllerState, saved: { step: number; folder: string; digest: string }): Effect[] {
    const { step, folder, digest } = saved;
    const cancels: Effect[] = state.saving === step ? [{ kind: "cancel-timer", name: "saving" }] : [];
    if (state.saving === step) state.saving = undefined;
    // Told late by one that had been given up: a newer one is known.
    if (state.saved !== undefined && step <= state.saved.step) return cancels;
    state.saved = { step, folder, digest };
    state.owed = false;
    this.ports.emit({ kind: "saved", step, folder, digest });
    const last = state.interrupted || state.step >= state.steps;
    const waiting = state.phase === "training" && (state.heldBack || !state.stepping && last);
    const probe = probing.snapshotSaved(state, saved, this);
    return [...cancels, ...probe, ...(waiting ? this.next(state) : [])];
  }

  /** The weights of a checkpoint are no numbers: none was written, and no later one could be. */
  unfit(state: ControllerState, told: { step: number; name: string }): Effect[] {
    return this.outcomes.giveUp(state, {
      actor: state.seats[0].id,
      error: weightsFault(this.#config, told),
      lines: [],
    });
  }

  /** A trainer has prepared the step. */
  prepared(state: ControllerState, done: { trainer: string; report: StepDone }): Effect[] {
    const { step, epoch } = done.report;
    if (step !== state.step || epoch !== state.epoch || state.phase !== "training") return [];
    if (!state.seats.some(({ id }) => id === done.trainer)) return [];
    state.reports.set(done.trainer, done.report);
    return this.#whenPrepared(state);
  }

  /** The Sinkhorn coordinator has told how evenly the prototypes are used. */
  assigned(state: ControllerState, told: { step: number; epoch: number; perplexity: number }): Effect[] {
    if (told.epoch !== state.epoch) return [];
    state.perplexity.set(told.step, told.perplexity);
    return this.#whenPrepared(state);
  }

  #whenPrepared(state: ControllerState): Effect[] {
    const perplexity = this.#config.method.name === "swav" ? state.perplexity.get(state.step) : 0;
    const waiting = missing(state.seats.map((seat) => seat.id), state.reports);
    if (waiting.length > 0 || perplexity === undefined || state.reports.size === 0) return [];
    const { strays, sure } = strayTrainers(state);
    if (strays.length > 0) return this.outcomes.fail(state, strayCause(state, strays), { strays, mendable: sure });
    const record = stepRecord(state, { config: this.#config, perplexity, now: this.ports.now() });
    const fault = repetitionFault(state);
    if (fault !== undefined) return this.outcomes.fail(state, fault);
    if (!Number.isFinite(record.loss)) {
      const error = lossFault(this.#config, record);
      return this.outcomes.giveUp(state, { actor: state.seats[0].id, error, lines: [] });
    }
    this.ports.emit({ kind: "commit", record: commitRecord(state, this.#config, record) });
    const commits = this.#commits(state);
    state.stepping = false;
    state.reports.clear();
    state.perplexity.delete(state.step);
    this.ports.emit({ kind: "step", record, steps: state.steps });
    state.plateau = nextPlateau.after(this.#config, state.plateau, record.loss);
    state.step += 1;
    state.stepsTaken += 1;
    noteProgress(state);
    if (this.options.stopBeforeStep === state.step) state.interrupted = true;
    return [{ kind: "cancel-timer", name: "step" }, ...commits, ...this.next(state)];
  }

  #commits(state: ControllerState): Effect[] {
    const { step, epoch, learningRate } = state;
    const all = [...state.seats, ...observers(state)].map(({ id }) => id);
    return all.map((to): Effect => ({ kind: "send", to, message: { type: "commit", step, epoch, learningRate } }));
  }
}
