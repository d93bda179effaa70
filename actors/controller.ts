/**
 * The controller: waits for hosts, has actors started, configures them, drives the run step by step, has checkpoints
 * written, and ends it. Every wait has a deadline and names whom it waits for. If an actor is lost, all are started anew
 * from the newest checkpoint (`recovery.ts`), or the run stops with the cause. It computes nothing of the model.
 */
import type { TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import type { RunFailure } from "./events.ts";
import {
  backoffMs,
  beginRestart,
  countsWhileHalting,
  halted,
  haltTimeoutMs,
  mayRestart,
  noteProgress,
  rootCause,
} from "./recovery.ts";
import { learningRateAt, lossFault, nextPlateau, repetitionFault, type StepDone, stepRecord } from "./step_record.ts";
import type { ActorId, Behavior, Effect } from "./runtime/behavior.ts";
import * as probing from "./probing.ts";
import { configureOrders, saveOrders, startOrders, stopOrders } from "./start_orders.ts";
import { actorIds, placeActors, seatReplicas, trainersFor } from "./seats.ts";
import { alarm, type Cause, lateCause, lostCause, pulseCause, pulseWatchMs, silentCause } from "./watch.ts";
import {
  type ControllerOptions,
  type ControllerPorts,
  type ControllerState,
  initialState,
  missing,
  statusOf,
  tailOf,
  waitOf,
} from "./controller_state.ts";

export type { ControllerOptions, ControllerPorts, ControllerState } from "./controller_state.ts";

const watchMs = 2_000;
/** Time for the better-informed report (last words, exit code) to arrive before a lost link is reported. */
const lostLinkGraceMs = 1_500;

/** The behaviour of a run's controller. */
export function controllerBehavior(options: ControllerOptions, ports: ControllerPorts): Behavior<ControllerState> {
  const controller = new Controller(options, ports);
  return {
    init: () => [initialState(options.attempt), controller.begin()],
    handle: (state, message, from) => [state, controller.handle(state, message, from)],
  };
}

/** Decisions of the controller; all that changes is in the state given to each call. */
class Controller {
  constructor(readonly options: ControllerOptions, readonly ports: ControllerPorts) {}

  get #config(): TrainConfig {
    return this.options.config;
  }

  begin(): Effect[] {
    const patienceMs = this.options.hosts > 1 ? 24 * 3_600_000 : this.#config.cluster.startTimeoutMs;
    return [alarm("hosts", this.options.hostsMs ?? patienceMs), alarm("watch", watchMs), alarm("pulse", pulseWatchMs)];
  }

  handle(state: ControllerState, message: Message, from: ActorId): Effect[] {
    if (state.phase === "ended") return [];
    if (state.phase === "halting" && !countsWhileHalting(state, message, from)) return [];
    if (probing.concernsEvaluator(message, from)) return this.#evaluator(state, message);
    if (message.type === "pulse") {
      state.pulses.set(from, this.ports.now());
      return [];
    }
    state.heardAt.set(from, this.ports.now());
    switch (message.type) {
      case "host-ready":
        return this.#hostReady(state, { host: from, adapters: message.adapters });
      case "halted":
        return message.attempt === state.attempt ? this.#halted(state, from) : [];
      case "hello":
        return this.#hello(state, { id: from, url: message.url, pid: message.pid });
      case "source":
        state.stepsPerEpoch = message.stepsPerEpoch;
        state.images = message.images;
        return this.#whenReady(state);
      case "ready":
        this.ports.emit({ kind: "ready", actor: from, detail: message.detail });
        state.ready.add(from);
        return this.#whenReady(state);
      case "loaded":
        state.loaded = true;
        state.step = message.step;
        if (state.attempt === state.firstAttempt) state.startedAt = message.step;
        state.plateau = nextPlateau.parse(message.progress);
        this.ports.emit({ kind: "resumed", step: message.step, notes: message.notes });
        return this.#whenRestored(state);
      case "restored":
        state.restored.add(from);
        return this.#whenRestored(state);
      case "step-done":
        return this.#stepDone(state, { trainer: from, report: message });
      case "assignment":
        state.perplexity.set(message.step, message.perplexity);
        return this.#whenStepDone(state);
      case "saved":
        return this.#saved(state, message);
      case "images-replaced":
        this.ports.emit({ kind: "images-replaced", step: message.step, images: message.images });
        return [];
      case "log-lines":
        state.tails.set(message.actor, [...tailOf(state, message.actor), ...message.lines].slice(-20));
        this.ports.emit({ kind: "log", actor: message.actor, lines: message.lines });
        return [];
      case "stop":
        return this.#interrupt(state);
      case "alarm":
        return this.#alarm(state, message.name);
      default:
        return this.#trouble(state, message, from);
    }
  }

  /** The run's end waits for the last snapshot to be judged; nothing else waits for the evaluator. */
  #evaluator(state: ControllerState, message: Message): Effect[] {
    const effects = probing.evaluatorSays(state, message, this);
    return state.phase === "judging" && !probing.probesLeft(state) ? [...effects, ...this.#end(state)] : effects;
  }

  #trouble(state: ControllerState, message: Message, from: ActorId): Effect[] {
    if (message.type === "failed") {
      return this.#fail(state, { actor: from, error: message.error, lines: message.logTail.slice(-20) });
    }
    if (message.type === "actor-exited") {
      if (state.phase === "halting") {
        return this.#hostLost(state, { host: message.actor, error: `exit code ${message.code}` });
      }
      state.tails.set(message.actor, message.lines);
      const error = `its process ended with exit code ${message.code}`;
      return this.#fail(state, { actor: message.actor, error, lines: message.lines });
    }
    if (message.type === "peer-down") {
      // The link of an actor that was ended for a restart may break late.
      if (!state.urls.has(message.peer) && !state.hosts.includes(message.peer)) return [];
      if (state.phase === "halting") return this.#hostLost(state, { host: message.peer, error: message.reason });
      state.lost.set(message.peer, message.reason);
      return [alarm("lost", lostLinkGraceMs)];
    }
    return [];
  }

  #hostReady(state: ControllerState, joined: { host: string; adapters: readonly string[] }): Effect[] {
    if (state.hosts.includes(joined.host)) return [];
    // The local host comes first, whoever joined before it.
    if (joined.host === actorIds.localHost) state.hosts.unshift(joined.host);
    else state.hosts.push(joined.host);
    this.ports.emit({ kind: "host-joined", ...joined });
    if (state.phase !== "hosts") {
      // Its turn comes with the next start of the actors: at the end of this step, or of the restart under way.
      state.moving = state.phase !== "halting";
      const awaited = !state.moving && joined.host === actorIds.localHost && state.halting.size === 0;
      return awaited ? this.#whenHalted(state) : [];
    }
    if (state.hosts.length < this.options.hosts || state.hosts[0] !== actorIds.localHost) return [];
    return [{ kind: "cancel-timer", name: "hosts" }, ...this.#startActors(state)];
  }

  #startActors(state: ControllerState): Effect[] {
    const { replicas, cluster, method } = this.#config;
    state.phase = "starting";
    const trainers = trainersFor(cluster.trainers, {
      replicas,
      hosts: state.hosts.length,
      planned: this.options.hosts,
    });
    state.seats = seatReplicas(replicas, trainers);
    state.placements = placeActors(state.hosts, { trainers, shards: cluster.syncShards, method: method.name });
    this.ports.emit({ kind: "starting", actors: state.placements });
    const orders = startOrders(state, this.#config);
    return [...orders, alarm("starting", cluster.startTimeoutMs)];
  }

  #hello(state: ControllerState, actor: { id: string; url: string | null; pid: number }): Effect[] {
    state.urls.set(actor.id, actor.url);
    state.pids.set(actor.id, actor.pid);
    this.ports.emit({ kind: "started", actor: actor.id, pid: actor.pid });
    if (state.phase !== "starting") return [];
    const expected = state.placements.map((placement) => placement.id);
    if (missing(expected, state.urls).length > 0) return [];
    state.phase = "configuring";
    return [
      { kind: "cancel-timer", name: "starting" },
      ...configureOrders(state, this.options),
      alarm("configuring", this.#config.cluster.startTimeoutMs),
    ];
  }

  #whenReady(state: ControllerState): Effect[] {
    const waiting = missing(state.placements.map(({ id }) => id), state.ready);
    if (state.phase !== "configuring" || waiting.length > 0 || state.images === 0) return [];
    const { steps, epochs } = this.#config;
    state.steps = steps ?? Math.floor((epochs ?? 1) * state.stepsPerEpoch);
    const { resume } = this.options;
    if (resume === undefined && state.saved === undefined) {
      const notes = ["no checkpoint was written yet: the run begins anew"];
      if (state.attempt > 0) this.ports.emit({ kind: "resumed", step: 0, notes });
      return this.#train(state);
    }
    state.phase = "restoring";
    const step = resume?.step === undefined ? undefined : state.saved?.step ?? resume.step;
    const load: Message = { type: "load", ...(step === undefined ? {} : { step }) };
    return [
      { kind: "cancel-timer", name: "configuring" },
      { kind: "send", to: actorIds.checkpointer, message: load },
      alarm("restoring", this.#config.cluster.startTimeoutMs),
    ];
  }

  /** Trainers may be heard before the checkpointer that they have their state from. */
  #whenRestored(state: ControllerState): Effect[] {
    const waiting = missing(state.seats.map((seat) => seat.id), state.restored);
    return state.loaded && waiting.length === 0 && state.phase === "restoring" ? this.#train(state) : [];
  }

  #train(state: ControllerState): Effect[] {
    state.phase = "training";
    if (state.firstStepAt === 0) state.firstStepAt = this.ports.now();
    const cancels = ["configuring", "restoring"].map((name): Effect => ({ kind: "cancel-timer", name }));
    return [...cancels, ...this.#nextStep(state)];
  }

  /** Starts the step that `state.step` names, or what has to come before it, or the end. */
  #nextStep(state: ControllerState): Effect[] {
    const { everySteps } = this.#config.checkpoint;
    const over = state.step >= state.steps || state.interrupted;
    const due = over || state.moving || probing.probeDue(this.#config, state) && state.stepsTaken > 0 ||
      (everySteps > 0 && state.step > 0 && state.step % everySteps === 0 && state.stepsTaken > 0);
    const known = state.saved?.step === state.step;
    // One checkpoint at a time: the next waits for the one being written; training goes on beside it until then.
    state.heldBack = due && !known && state.saving !== undefined;
    if (state.heldBack) return [];
    if (over) return known ? this.#end(state) : this.#save(state);
    if (state.moving) return known ? this.#move(state) : this.#save(state);
    const save = due && !known ? this.#save(state) : [];
    state.stepAt = this.ports.now();
    state.stepping = true;
    state.learningRate = learningRateAt(this.#config, state.step, { steps: state.steps, plateau: state.plateau });
    const order: Message = { type: "step", step: state.step, learningRate: state.learningRate };
    const orders = state.seats.map((seat): Effect => ({ kind: "send", to: seat.id, message: order }));
    return [...save, ...orders, alarm("step", this.#config.cluster.stepTimeoutMs)];
  }

  /** Has the state before step `state.step` written; training goes on meanwhile. */
  #save(state: ControllerState): Effect[] {
    state.saving = state.step;
    return [...saveOrders(state), alarm("saving", this.#config.cluster.stepTimeoutMs)];
  }

  #saved(state: ControllerState, saved: { step: number; folder: string; digest: string }): Effect[] {
    const { step, folder, digest } = saved;
    state.saved = { step, folder, digest };
    state.saving = undefined;
    this.ports.emit({ kind: "saved", step, folder, digest });
    const last = state.interrupted || state.step >= state.steps || state.moving;
    const waiting = state.heldBack || !state.stepping && last;
    const probe = probing.snapshotSaved(state, saved, this);
    return [{ kind: "cancel-timer", name: "saving" }, ...probe, ...(waiting ? this.#nextStep(state) : [])];
  }

  #stepDone(state: ControllerState, done: { trainer: string; report: StepDone }): Effect[] {
    if (done.report.step !== state.step) return [];
    state.reports.set(done.trainer, done.report);
    return this.#whenStepDone(state);
  }

  #whenStepDone(state: ControllerState): Effect[] {
    const perplexity = this.#config.method.name === "swav" ? state.perplexity.get(state.step) : 0;
    const waiting = missing(state.seats.map((seat) => seat.id), state.reports);
    if (waiting.length > 0 || perplexity === undefined || state.reports.size === 0) return [];
    const record = stepRecord(state, { config: this.#config, perplexity, now: this.ports.now() });
    const fault = repetitionFault(state);
    if (fault !== undefined) return this.#fail(state, fault);
    state.stepping = false;
    state.reports.clear();
    state.perplexity.delete(state.step);
    if (!Number.isFinite(record.loss)) {
      const error = lossFault(this.#config, record);
      return this.#giveUp(state, { actor: state.seats[0].id, host: state.placements[0].host, error, lines: [] });
    }
    this.ports.emit({ kind: "step", record, steps: state.steps });
    state.plateau = nextPlateau.after(this.#config, state.plateau, record.loss);
    state.step += 1;
    state.stepsTaken += 1;
    noteProgress(state);
    if (this.options.stopBeforeStep === state.step) state.interrupted = true;
    return [{ kind: "cancel-timer", name: "step" }, ...this.#nextStep(state)];
  }

  #interrupt(state: ControllerState): Effect[] {
    state.interrupted = true;
    if (state.phase === "training") return [];
    return this.#end(state);
  }

  #end(state: ControllerState): Effect[] {
    return probing.waitsForLast(state) ? [] : this.#finish(state);
  }

  #finish(state: ControllerState): Effect[] {
    const { step, saved } = state;
    probing.tellUnjudged(state, this.ports);
    const outcome = step >= state.steps && state.steps > 0 ? "finished" : "interrupted";
    this.ports.emit({ kind: "ended", outcome, step, digest: saved?.digest ?? "", folder: saved?.folder ?? "" });
    return this.#stopAll(state, outcome);
  }

  #alarm(state: ControllerState, name: string): Effect[] {
    if (name === "halting") return this.#haltLate(state);
    if (name === "restart") return this.#startActors(state);
    if (name === "watch") return this.#watch(state);
    if (name === "pulse") {
      return [alarm("pulse", pulseWatchMs), ...this.#mayFail(state, pulseCause(state, this.ports.now()))];
    }
    if (name === "lost") return this.#mayFail(state, lostCause(state));
    const enough = this.options.hostsMs !== undefined && state.hosts[0] === actorIds.localHost;
    if (name === "hosts" && state.phase === "hosts" && enough) return this.#startActors(state);
    const wait = waitOf(state, name, this.options.hosts);
    return wait === undefined ? [] : this.#fail(state, lateCause(state, wait, this.ports.now()));
  }

  #watch(state: ControllerState): Effect[] {
    const now = this.ports.now();
    this.ports.emit({ kind: "status", status: statusOf(state, now) });
    const silent = silentCause(state, now);
    return silent === undefined ? [alarm("watch", watchMs)] : this.#fail(state, silent);
  }

  #mayFail(state: ControllerState, cause: Cause | undefined): Effect[] {
    return cause === undefined ? [] : this.#fail(state, cause);
  }

  #fail(state: ControllerState, cause: Cause): Effect[] {
    // All steps are taken and saved.
    if (state.phase === "judging") return this.#finish(state);
    const host = state.placements.find(({ id }) => id === cause.actor)?.host ?? cause.actor;
    const failure: RunFailure = { ...cause, host };
    const restartsMax = this.#config.cluster.restarts;
    const replaceable = cause.actor !== actorIds.localHost || this.ports.replaceLocalHost !== undefined;
    if (state.interrupted || !replaceable || !mayRestart(state, restartsMax)) return this.#giveUp(state, failure);
    const effects = beginRestart(state, failure);
    const restart = state.restarts.taken;
    this.ports.emit({ kind: "restarting", failure, restart, restartsMax, delayMs: backoffMs(restart) });
    if (failure.actor === actorIds.localHost) this.ports.replaceLocalHost?.();
    const wait = state.halting.size === 0 ? this.#whenHalted(state) : [alarm("halting", haltTimeoutMs)];
    return [...effects, alarm("watch", watchMs), ...wait];
  }

  /** Starts all actors anew with the hosts that there are now; the state before this step is in a checkpoint. */
  #move(state: ControllerState): Effect[] {
    this.ports.emit({ kind: "moving", step: state.step, hosts: [...state.hosts] });
    return [...beginRestart(state), alarm("watch", watchMs), alarm("halting", haltTimeoutMs)];
  }

  #halted(state: ControllerState, host: string): Effect[] {
    return halted(state, host) ? this.#whenHalted(state) : [];
  }

  #whenHalted(state: ControllerState): Effect[] {
    if (!state.hosts.includes(actorIds.localHost)) return [alarm("hosts", this.#config.cluster.startTimeoutMs)];
    const delayMs = backoffMs(state.restarts.taken);
    const cancels = ["halting", "hosts"].map((name): Effect => ({ kind: "cancel-timer", name }));
    return [...cancels, ...(delayMs === 0 ? this.#startActors(state) : [alarm("restart", delayMs)])];
  }

  /** A host is gone while the actors are being ended: the others carry on without it. */
  #hostLost(state: ControllerState, { host, error }: { host: string; error: string }): Effect[] {
    state.hosts = state.hosts.filter((id) => id !== host);
    if (host !== actorIds.localHost) return this.#halted(state, host);
    return this.#fail(state, { actor: host, error: `connection lost: ${error}`, lines: tailOf(state, host) });
  }

  #haltLate(state: ControllerState): Effect[] {
    const lost = { error: `did not end its actors within ${haltTimeoutMs} ms` };
    return [...state.halting].flatMap((host) => this.#hostLost(state, { host, ...lost }));
  }

  #giveUp(state: ControllerState, failure: RunFailure): Effect[] {
    const root = rootCause(state, failure);
    this.ports.emit({ kind: "failed", failure: root });
    return this.#stopAll(state, `run failed: ${root.actor}`);
  }

  #stopAll(state: ControllerState, reason: string): Effect[] {
    state.phase = "ended";
    return [...stopOrders(state, reason), { kind: "stop", reason }];
  }
}
