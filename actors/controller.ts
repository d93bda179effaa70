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
  haltTimeoutMs,
  lossesBefore,
  mayRestart,
  mayStart,
  rootCause,
} from "./recovery.ts";
import { configureLate, forget, goneWith, isReady, lateNewcomers, mayMend } from "./regroup.ts";
import { RegroupDriver } from "./regroup_driver.ts";
import { nextPlateau } from "./step_record.ts";
import { StepDriver } from "./step_driver.ts";
import { adoptMs, forgetFound } from "./adopt.ts";
import { HostDriver, type HostReady } from "./host_driver.ts";
import { mayOutlive } from "./orphans.ts";
import type { ActorId, Behavior, Effect } from "./runtime/behavior.ts";
import * as probing from "./probing.ts";
import { configureOrders, startOrders, stopOrders } from "./start_orders.ts";
import { actorIds, placeActors, seatReplicas, trainerIds, trainersFor } from "./seats.ts";
import {
  alarm,
  brokenCause,
  type Cause,
  inquiry,
  lateCause,
  lostCause,
  lostHost,
  pulseCause,
  pulseWatchMs,
  silentCause,
  troubleOf,
} from "./watch.ts";
import {
  type ControllerOptions,
  type ControllerPorts,
  type ControllerState,
  initialState,
  isPlaced,
  isWaiting,
  missing,
  passOn,
  statusOf,
  waitOf,
} from "./controller_state.ts";

export type { ControllerOptions, ControllerPorts, ControllerState } from "./controller_state.ts";

const watchMs = 2_000;

/** The behaviour of a run's controller. */
export function controllerBehavior(options: ControllerOptions, ports: ControllerPorts): Behavior<ControllerState> {
  const controller = new Controller(options, ports);
  return {
    init: () => [initialState(options.attempt), controller.begin()],
    handle: (state, message, from) => [state, controller.handle(state, message, from)],
  };
}

function hostWords({ adapters, code, living = [] }: Extract<Message, { type: "host-ready" }>): Omit<HostReady, "host"> {
  return { adapters, code, living };
}

/** Decisions of the controller; all that changes is in the state given to each call. */
class Controller {
  readonly #steps: StepDriver;
  readonly #members: RegroupDriver;
  readonly #hosts: HostDriver;

  constructor(readonly options: ControllerOptions, readonly ports: ControllerPorts) {
    this.#steps = new StepDriver(options, ports, {
      end: (state) => this.#end(state),
      fail: (state, cause, about) => this.#fail(state, cause, about),
      giveUp: (state, cause) => this.#giveUp(state, { ...cause, host: state.placements[0].host }),
      regroup: (state, change) => this.#members.regroup(state, change),
    });
    this.#members = new RegroupDriver(options, ports, (state) => this.#steps.next(state));
    this.#hosts = new HostDriver(options, ports, this.#members, {
      startActors: (state) => this.#startActors(state),
      fail: (state, cause) => this.#fail(state, cause),
    });
  }

  get #config(): TrainConfig {
    return this.options.config;
  }

  begin(): Effect[] {
    const patienceMs = this.options.hosts > 1 ? 24 * 3_600_000 : this.#config.cluster.startTimeoutMs;
    const alarms = [alarm("hosts", this.options.hostsMs ?? patienceMs), alarm("watch", watchMs)];
    const adopts = this.options.adopt === undefined ? [] : [alarm("adopt", adoptMs)];
    return [...alarms, alarm("pulse", pulseWatchMs), ...adopts];
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
        return this.#hosts.ready(state, { host: from, ...hostWords(message) });
      case "halted":
        return message.attempt === state.epoch ? this.#hosts.halted(state, from) : [];
      case "hello":
        return this.#hello(state, { ...message, id: from });
      case "source":
        state.stepsPerEpoch = message.stepsPerEpoch;
        state.images = message.images;
        return this.#whenReady(state);
      case "ready":
        this.ports.emit({ kind: "ready", actor: from, detail: message.detail });
        state.ready.add(from);
        isReady(state, from, this.ports.now());
        return [...this.#whenReady(state), ...this.#members.whenEpochStands(state)];
      case "loaded":
        state.loaded = true;
        state.step = message.step;
        if (state.attempt === state.firstAttempt) state.startedAt = message.step;
        state.plateau = nextPlateau.parse(message.progress);
        this.ports.emit({ kind: "resumed", step: message.step, notes: message.notes });
        return this.#whenRestored(state);
      case "restored":
        if (message.epoch !== undefined) {
          return message.epoch === state.epoch
            ? this.#members.followed(state, { id: from, step: message.step - 1 })
            : [];
        }
        state.restored.add(from);
        return this.#whenRestored(state);
      case "followed":
        return message.epoch === state.epoch ? this.#members.followed(state, { id: from, step: message.step }) : [];
      case "prepared":
        return this.#steps.prepared(state, { trainer: from, report: message });
      case "assignment":
        return this.#steps.assigned(state, message);
      case "regrouped":
        if (message.epoch === state.epoch) state.regrouping.waiting.delete(from);
        return this.#members.whenEpochStands(state);
      case "saved":
        return this.#steps.saved(state, message);
      case "snapshot-unfit":
        return this.#steps.unfit(state, message);
      case "images-replaced":
        passOn(state, message, this.ports);
        return [];
      case "log-lines":
        // An actor speaks for itself only.
        if (message.actor === from || state.hosts.includes(from)) passOn(state, message, this.ports);
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
    if (state.phase === "hosts" && this.options.adopt !== undefined) return forgetFound(state, message, from);
    if (state.phase === "halting") {
      const lost = lostHost(state, message);
      return lost === undefined ? [] : this.#hosts.lostWhileHalting(state, lost);
    }
    const { cause, effects } = troubleOf(state, message, from);
    return cause === undefined ? effects : this.#fail(state, cause);
  }

  #startActors(state: ControllerState): Effect[] {
    const { replicas, cluster, method } = this.#config;
    state.phase = "starting";
    const trainers = trainersFor(cluster.trainers, {
      replicas,
      hosts: state.hosts.length,
      planned: this.options.hosts,
    });
    state.seats = seatReplicas(replicas, trainerIds(trainers));
    state.placements = placeActors(state.hosts, { trainers, shards: cluster.syncShards, method: method.name });
    this.ports.emit({ kind: "starting", actors: [...state.placements], attempt: state.attempt });
    const orders = startOrders(state, this.#config);
    return [...orders, alarm("starting", cluster.startTimeoutMs)];
  }

  #hello(state: ControllerState, actor: { id: string; role: string; url: string | null; pid: number }): Effect[] {
    // One that was left out comes late.
    if (actor.role !== "host" && state.phase !== "hosts" && !isPlaced(state, actor.id)) return [];
    state.urls.set(actor.id, actor.url);
    state.pids.set(actor.id, actor.pid);
    this.ports.emit({ kind: "started", actor: actor.id, pid: actor.pid });
    if (state.phase === "hosts" && this.options.adopt !== undefined) return this.#hosts.whenBack(state);
    // Whoever has its link anew is late: its loss is being acted on.
    if (state.ready.has(actor.id)) return [];
    if (state.phase === "training" || state.phase === "regrouping") return configureLate(state, actor.id, this.options);
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
    return [...cancels, ...this.#members.fillUp(state), ...this.#steps.next(state)];
  }

  #interrupt(state: ControllerState): Effect[] {
    state.interrupted = true;
    // After the step, which may be begun anew with others.
    if (state.phase === "training" && !state.stepping) return this.#steps.next(state);
    if (state.phase === "training" || state.phase === "regrouping") return [];
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
    if (name === "halting") return this.#hosts.haltLate(state);
    if (name === "restart") return mayStart(state) ? this.#startActors(state) : [];
    if (name === "adopt" && state.phase === "hosts") return this.#hosts.whenBack(state, { late: true });
    if (name === "watch") return this.#watch(state);
    if (name === "pulse") {
      return [alarm("pulse", pulseWatchMs), ...this.#mayFail(state, pulseCause(state, this.ports.now()))];
    }
    if (name === "local-host") {
      const late = { actor: actorIds.localHost, error: "waited too long for it to start anew", lines: [] };
      return state.hosts.includes(actorIds.localHost) ? [] : this.#fail(state, late);
    }
    const broken = name === "lost" ? lostCause(state) : name === "broken" ? brokenCause(state) : undefined;
    if (broken !== undefined) return this.#fail(state, broken);
    const enough = this.options.hostsMs !== undefined && state.hosts[0] === actorIds.localHost;
    if (name === "hosts" && state.phase === "hosts" && enough) return this.#startActors(state);
    const wait = waitOf(state, name, this.options.hosts);
    if (wait === undefined || !isWaiting(state, name)) return [];
    const asks = inquiry(state, name);
    if (asks !== undefined) return asks;
    const effects = this.#fail(state, lateCause(state, wait, this.ports.now()));
    // Who was blamed may have been somebody that nothing waits for.
    return isWaiting(state, name) ? [...effects, alarm(name, this.#config.cluster.stepTimeoutMs)] : effects;
  }

  #watch(state: ControllerState): Effect[] {
    const now = this.ports.now();
    this.ports.emit({ kind: "status", status: statusOf(state, now) });
    const limitMs = this.#config.cluster.startTimeoutMs;
    const late = lateNewcomers(state, { now, limitMs }).flatMap((actor) =>
      this.#members.newcomerLost(state, { actor, error: `not ready to take part within ${limitMs} ms`, lines: [] })
    );
    return [...late, alarm("watch", watchMs), ...this.#mayFail(state, silentCause(state, now))];
  }

  #mayFail = (state: ControllerState, cause?: Cause): Effect[] => cause === undefined ? [] : this.#fail(state, cause);

  #fail(
    state: ControllerState,
    cause: Cause,
    { strays, mendable = true }: { strays?: readonly string[]; mendable?: boolean } = {},
  ): Effect[] {
    const { actor, linkOnly = false } = cause;
    if (!linkOnly && state.joining.has(actor)) return this.#members.newcomerLost(state, cause);
    const host = state.placements.find(({ id }) => id === actor)?.host ?? actor;
    const failure: RunFailure = { actor, host, error: cause.error, lines: cause.lines };
    const restartsMax = this.#config.cluster.restarts;
    const losses = lossesBefore(state, actor, this.ports.now());
    const replaceable = actor !== actorIds.localHost || this.ports.replaceLocalHost !== undefined;
    if (actor === actorIds.localHost && replaceable && mayOutlive(state, restartsMax)) {
      return this.#hosts.localLost(state, failure);
    }
    if (state.phase === "judging") return this.#lostWhileJudging(state, actor);
    const lost = linkOnly ? [] : strays ?? goneWith(state, actor);
    const hosts = !linkOnly && state.hosts.includes(actor) ? [actor] : [];
    if (mendable && replaceable && losses < restartsMax && mayMend(state, { actor, gone: lost, losses })) {
      return this.#members.regroup(state, { failure, lost, hosts });
    }
    const again = Math.max(losses, actor === actorIds.localHost ? state.hostLosses : 0);
    if (state.interrupted || !replaceable || again >= restartsMax || !mayRestart(state)) {
      return this.#giveUp(state, failure);
    }
    const effects = beginRestart(state, failure, this.ports.now());
    const restart = state.restarts.taken;
    this.ports.emit({ kind: "restarting", failure, restart, restartsMax, delayMs: backoffMs(restart) });
    if (!state.hosts.includes(actorIds.localHost)) this.ports.replaceLocalHost?.();
    const wait = state.halting.size === 0 ? this.#hosts.whenHalted(state) : [alarm("halting", haltTimeoutMs)];
    return [...effects, alarm("watch", watchMs), ...wait];
  }

  /** All steps are taken and saved: nobody but the evaluator, and the host that carries it, is needed any more. */
  #lostWhileJudging(state: ControllerState, actor: string): Effect[] {
    if (actor === actorIds.localHost) return this.#finish(state);
    forget(state, actor);
    state.hosts = state.hosts.filter((host) => host !== actor);
    return [];
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
