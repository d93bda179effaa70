/**
 * How a run goes on without stopping when who takes part changes: a new membership epoch in which the survivors keep
 * their state, lost actors start anew one by one, replicas move to the trainers that live, and newcomers are let in at
 * the border of two steps once they have followed the others that far. Pure decisions about the controller's memory.
 */
import type { TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import { awaitedByEpoch, type ControllerOptions, type ControllerState, isPlaced } from "./controller_state.ts";
import type { RunFailure } from "./events.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds, freeTrainerIds, type Placement, seatReplicas, trainersFor } from "./seats.ts";
import { configureOrder, directoryOrders, refuseOlder, spawnOrder } from "./start_orders.ts";
import { alarm } from "./watch.ts";

/** A trainer without replicas, on its way to some. */
export interface Newcomer {
  /** Its process starts; it is configured and waits; it gets a state; it follows the steps. */
  stage: "starting" | "ready" | "restoring" | "observing";
  /** The step after which its state is. */
  followed: number;
  /** Starts that failed. */
  failures: number;
  /** When the stage began. */
  since: number;
}

/** Whose answers a new epoch waits for. */
export interface Regrouping {
  readonly waiting: Set<string>;
  /** Newcomers that it has let in. */
  readonly admitted: readonly string[];
}

/** What changes with an epoch. */
export interface Change {
  readonly failure?: RunFailure;
  /** Actors that are gone. */
  readonly lost?: readonly string[];
  /** Hosts that are gone, whose actors are among the lost. */
  readonly hosts?: readonly string[];
  /** Newcomers that get replicas. */
  readonly admitted?: readonly string[];
}

/** Losses in a row without a new step that are mended one by one; after that all actors start anew. */
const mendsMax = 3;
/** Starts of a newcomer that may fail. */
const newcomerFailuresMax = 3;
/** Steps that a newcomer may lag behind before the others wait for it. */
const lagMax = 4;

/** The actors that are gone with `actor`, itself included; those of a host when it is one, but for the local host's. */
export function goneWith(state: ControllerState, actor: string): string[] {
  if (actor === actorIds.localHost) return [];
  const on = state.placements.filter(({ host }) => host === actor).map(({ id }) => id);
  return state.hosts.includes(actor) ? on : [actor];
}

/** Who is gone by a change, together with those whose link to the controller has broken of late. */
export function allGone(
  state: ControllerState,
  { lost = [], hosts = [] }: Change,
): { lost: string[]; hosts: string[] } {
  const unheard = [...state.lost.keys()];
  const all = [...new Set([...hosts, ...unheard.filter((id) => state.hosts.includes(id))])];
  return { hosts: all, lost: [...new Set([...lost, ...[...all, ...unheard].flatMap((id) => goneWith(state, id))])] };
}

/**
 * Whether a loss can be mended while the others keep what they have: `gone` are all who are gone, none when only a link is;
 * `losses` in a row were without a new step.
 */
export function mayMend(
  state: ControllerState,
  { actor, gone, losses }: { actor: string; gone: readonly string[]; losses: number },
): boolean {
  const underWay = state.phase === "training" || state.phase === "regrouping";
  if (!underWay || losses >= mendsMax) return false;
  const known = state.hosts.includes(actor) || isPlaced(state, actor);
  const all = [...gone, ...allGone(state, {}).lost];
  // Who was let in and has not answered yet may lack the last step that counts.
  const { admitted, waiting } = state.regrouping;
  const unsure = state.phase === "regrouping" ? admitted.filter((id) => waiting.has(id)) : [];
  return known && state.seats.some(({ id }) => !all.includes(id) && !unsure.includes(id));
}

/** Begins an epoch; its first step waits until {@linkcode epochStands}. */
export function beginEpoch(
  state: ControllerState,
  change: Change,
  { config, now }: { config: TrainConfig; now: number },
): Effect[] {
  const { lost = [], hosts = [], admitted = [] } = change;
  const epoch = state.epoch = ++state.attempt;
  const before = state.phase === "regrouping" ? state.regrouping : undefined;
  state.phase = "regrouping";
  state.stepping = false;
  state.held = false;
  for (const each of [state.reports, state.perplexity]) each.clear();
  state.hosts = state.hosts.filter((host) => !hosts.includes(host));
  const gone = [...new Set([...lost, ...hosts])];
  for (const id of gone) forget(state, id);
  const unsaved = dropSaving(state);
  const unseated = leaveOut(state, { before, gone, now });
  const kept = state.seats.map(({ id }) => id).filter((id) => !gone.includes(id) && !unseated.includes(id));
  state.seats = seatReplicas(config.replicas, [...kept, ...admitted]);
  for (const id of admitted) state.joining.delete(id);
  const starts = replace(state, lost, { config, now });
  // Who is configured hears of it, whether it has answered that or not.
  const configured = state.placements.map(({ id }) => id).filter((id) => state.urls.has(id));
  const steppers = configured.filter((id) => !state.joining.has(id));
  state.regrouping = { waiting: new Set(steppers), admitted };
  // Who was following starts over: what it waits for may never come.
  const newcomers = [...state.joining].filter(([id, { stage }]) => stage !== "starting" && state.urls.has(id));
  for (const [, newcomer] of newcomers) {
    if (isFollowing(newcomer)) Object.assign(newcomer, { stage: "ready", since: now });
  }
  const regroup = regroupOrders(state, gone);
  return [
    { kind: "disconnect", peers: gone, reason: `epoch ${epoch} begins`, below: epoch },
    ...["step", "broken", ...(state.lost.size === 0 ? ["lost"] : [])].map((name): Effect => ({
      kind: "cancel-timer",
      name,
    })),
    ...unsaved,
    ...starts,
    ...[...steppers, ...newcomers.map(([id]) => id)].map(regroup),
    alarm("regrouping", config.cluster.stepTimeoutMs),
  ];
}

/** Tells one actor of the epoch; links that broke between two that live are made anew by both. */
function regroupOrders(state: ControllerState, gone: readonly string[]): (to: string) => Effect {
  const { epoch, step } = state;
  const trainers = state.seats.map((seat) => ({ ...seat }));
  const pairs = [...state.broken.values()].filter((pair) => pair.every((id) => state.urls.has(id)));
  state.broken.clear();
  return (to) => {
    const others = pairs.flatMap((pair) => pair.includes(to) ? pair.filter((id) => id !== to) : []);
    const message: Message = {
      type: "regroup",
      epoch,
      step,
      trainers,
      gone: [
        ...gone.map((actor) => ({ actor, below: epoch })),
        ...[...new Set(others)].map((actor) => ({ actor, below: 0 })),
      ],
    };
    return { kind: "send", to, message };
  };
}

/**
 * Newcomers that the epoch before has let in, and that have not answered it, follow on if others are seated: what they
 * still wait for may have gone with somebody.
 */
function leaveOut(
  state: ControllerState,
  { before, gone, now }: { before: Regrouping | undefined; gone: readonly string[]; now: number },
): string[] {
  const late = (before?.admitted ?? []).filter((id) => before?.waiting.has(id) && !gone.includes(id));
  const others = state.seats.some(({ id }) => !late.includes(id) && !gone.includes(id));
  if (!others) return [];
  for (const id of late) state.joining.set(id, { stage: "ready", followed: -1, failures: 0, since: now });
  return late;
}

/** Begins the steps of the epoch, when nobody is waited for any more; undefined before. */
export function epochStands(state: ControllerState): Effect[] | undefined {
  if (state.phase !== "regrouping" || awaitedByEpoch(state).length > 0) return undefined;
  state.phase = "training";
  return [{ kind: "cancel-timer", name: "regrouping" }, ...directoryOrders(state)];
}

/** An actor that starts while the others are at work has said hello: it is told what the run is. */
export function configureLate(state: ControllerState, id: string, options: ControllerOptions): Effect[] {
  const placement = state.placements.find((each) => each.id === id);
  return placement === undefined ? [] : [...directoryOrders(state, [id]), configureOrder(state, options, placement)];
}

/** Starts as many trainers as the hosts there are should have, beside those that are placed. */
export function fillUp(state: ControllerState, { config, hosts: planned }: ControllerOptions, now: number): Effect[] {
  if (state.hosts.length === 0) return [];
  const { replicas, cluster } = config;
  const wanted = trainersFor(cluster.trainers, { replicas, hosts: state.hosts.length, planned });
  const placed = state.placements.filter(({ role }) => role === "trainer");
  if (wanted <= placed.length) return [];
  const load = (host: string) =>
    state.placements.filter((each) => each.role === "trainer" && each.host === host).length;
  return freeTrainerIds(placed.map(({ id }) => id), wanted - placed.length).flatMap(({ id, index }) => {
    const host = [...state.hosts].sort((a, b) => load(a) - load(b))[0];
    const placement: Placement = { id, role: "trainer", host, index };
    state.placements.push(placement);
    const start = startNewcomer(state, placement, { config, now, failures: 0 });
    return [refuseOlder([id], state.attempt), ...start];
  });
}

/**
 * What the border before a step brings: newcomers that wait get a state and follow from here on. `hold` when one of them
 * lags so far behind that the others wait.
 */
export function atBorder(state: ControllerState, now: number): { effects: Effect[]; hold: boolean } {
  const waiting = [...state.joining].filter(([, { stage }]) => stage === "ready");
  for (const [, newcomer] of waiting) {
    Object.assign(newcomer, { stage: "restoring", followed: state.step - 1, since: now });
  }
  const ids = waiting.map(([id]) => id);
  const [{ id: donor }] = state.seats;
  const { step, epoch } = state;
  const effects: Effect[] = ids.length === 0 ? [] : [
    ...directoryOrders(state),
    ...ids.map((to): Effect => ({ kind: "send", to, message: { type: "observe", step, epoch } })),
    { kind: "send", to: donor, message: { type: "share-state", step, epoch, to: ids } },
  ];
  const lag = [...state.joining.values()].some((newcomer) =>
    isFollowing(newcomer) && state.step - 1 - newcomer.followed > lagMax
  );
  return { effects, hold: lag };
}

/** The newcomers that have followed so far that they can take part in the next step; all who follow, or none. */
export function caughtUp(state: ControllerState): string[] {
  // What those who are let in have still to follow may go with whoever is lost.
  if (state.lost.size > 0) return [];
  const following = [...state.joining].filter(([, newcomer]) => isFollowing(newcomer));
  const all = following.every(([, { stage, followed }]) => stage === "observing" && followed >= state.step - 2);
  return all ? following.map(([id]) => id) : [];
}

/** Those who get the sums of the step beside the trainers that take it. */
export function observers(state: ControllerState): { id: string; attempt: number }[] {
  return [...state.joining].filter(([, newcomer]) => isFollowing(newcomer))
    .map(([id]) => ({ id, attempt: state.starts.get(id) ?? 0 }));
}

/** A newcomer's word that its state is that after `step`; words of an earlier epoch are void. */
export function hasFollowed(state: ControllerState, id: string, { step, now }: { step: number; now: number }): void {
  const newcomer = state.joining.get(id);
  if (newcomer === undefined || !isFollowing(newcomer) || step < newcomer.followed) return;
  Object.assign(newcomer, { stage: "observing", followed: step, since: now });
}

/** A newcomer is configured. */
export function isReady(state: ControllerState, id: string, now: number): void {
  const newcomer = state.joining.get(id);
  if (newcomer?.stage === "starting") Object.assign(newcomer, { stage: "ready", since: now });
}

function isFollowing({ stage }: Newcomer): boolean {
  return stage === "restoring" || stage === "observing";
}

/** A newcomer is gone. It starts anew while it may, or the run goes on without it: nothing waits for it. */
export function replaceNewcomer(
  state: ControllerState,
  id: string,
  { config, now }: { config: TrainConfig; now: number },
): { effects: Effect[]; startsAnew: boolean } {
  const failures = (state.joining.get(id)?.failures ?? 0) + 1;
  const placement = state.placements.find((each) => each.id === id);
  forget(state, id);
  state.joining.delete(id);
  const startsAnew = placement !== undefined && failures < newcomerFailuresMax && state.hosts.includes(placement.host);
  const effects: Effect[] = [{ kind: "disconnect", peers: [id], reason: "it is lost", below: ++state.attempt }];
  if (startsAnew) {
    return { effects: [...effects, ...startNewcomer(state, placement, { config, now, failures })], startsAnew };
  }
  state.placements = state.placements.filter((each) => each.id !== id);
  // Its process may live, and no other will take its place.
  return {
    effects: [{ kind: "send", to: id, message: { type: "stop", reason: "it is left out" } }, ...effects],
    startsAnew,
  };
}

/** Newcomers that have taken too long over what they do. */
export function lateNewcomers(state: ControllerState, { now, limitMs }: { now: number; limitMs: number }): string[] {
  const late = ({ stage, since }: Newcomer) =>
    (stage === "starting" || stage === "restoring" || stage === "observing" && state.held) && now - since > limitMs;
  return [...state.joining].filter(([, newcomer]) => late(newcomer)).map(([id]) => id);
}

function startNewcomer(
  state: ControllerState,
  placement: Placement,
  { config, now, failures }: { config: TrainConfig; now: number; failures: number },
): Effect[] {
  state.joining.set(placement.id, { stage: "starting", followed: -1, failures, since: now });
  state.starts.set(placement.id, ++state.attempt);
  return [spawnOrder(placement, { cluster: config.cluster, attempt: state.attempt })];
}

/**
 * Lost actors start anew where they were, or where a host is left; trainers of a lost host do not. What the local host
 * carries waits for it ({@linkcode startLocal}): it alone is sure to have images and checkpoints.
 */
function replace(
  state: ControllerState,
  lost: readonly string[],
  { config, now }: { config: TrainConfig; now: number },
): Effect[] {
  const effects: Effect[] = [];
  state.placements = state.placements.flatMap((placement) => {
    const { id, role } = placement;
    if (!lost.includes(id)) return [placement];
    const lives = state.hosts.includes(placement.host);
    state.joining.delete(id);
    if (role === "trainer" && !lives) return [];
    if (!lives && placement.host === actorIds.localHost) return [placement];
    const placed = lives ? placement : { ...placement, host: state.hosts[0] ?? actorIds.localHost };
    if (!state.hosts.includes(placed.host)) return [placed];
    if (role === "trainer") effects.push(...startNewcomer(state, placed, { config, now, failures: 0 }));
    else {
      state.starts.set(id, ++state.attempt);
      effects.push(spawnOrder(placed, { cluster: config.cluster, attempt: state.attempt }));
    }
    return [placed];
  });
  return effects;
}

/** The local host is there again: what it carries starts. */
export function startLocal(state: ControllerState, { cluster }: TrainConfig): Effect[] {
  const waiting = state.placements.filter(({ id, host }) => host === actorIds.localHost && !state.starts.has(id));
  return waiting.map((placement): Effect => {
    state.starts.set(placement.id, ++state.attempt);
    return spawnOrder(placement, { cluster, attempt: state.attempt });
  });
}

/** A checkpoint that is not on disk yet may lack parts for good: it is taken anew at the next border. */
function dropSaving(state: ControllerState): Effect[] {
  if (state.saving === undefined) return [];
  state.saving = undefined;
  state.heldBack = false;
  state.owed = true;
  return [{ kind: "cancel-timer", name: "saving" }];
}

/** Forgets all that an actor or host has told. */
export function forget(state: ControllerState, id: string): void {
  for (const each of [state.urls, state.pids, state.heardAt, state.pulses, state.ready, state.lost, state.starts]) {
    each.delete(id);
  }
  // A link that broke with its end says nothing of the process that comes in its place.
  for (const [key, pair] of state.broken) if (pair.includes(id)) state.broken.delete(key);
}
