/**
 * How a controller that is started anew goes on with actors of the one before it: its hosts tell which live, the run's
 * journal tells the last step that counts, and a membership epoch with those who live takes the next one. Pure decisions
 * about the controller's memory.
 */
import type { Message } from "../wire/messages.ts";
import type { Effect } from "./runtime/behavior.ts";
import type { CommitRecord, RunEvent } from "./events.ts";
import type { ControllerOptions, ControllerState } from "./controller_state.ts";
import { type Change, forget } from "./regroup.ts";
import { placeActors, type Placement, type Role, seatReplicas } from "./seats.ts";
import { nextPlateau } from "./step_record.ts";
import { halt } from "./start_orders.ts";
import { roleOf } from "./who_may_send.ts";

/** What the journal of a run tells. */
export interface Journal {
  /** The last step that counts. */
  readonly commit: CommitRecord;
  /** The newest checkpoint. */
  readonly saved?: { readonly step: number; readonly folder: string; readonly digest: string };
  /** Processes of actors that were configured: others do not know what the run is. */
  readonly ready: ReadonlySet<number>;
  /** The trainers that had replicas: others lack the state. */
  readonly seated: readonly string[];
}

/** The journal that a run's events and its last commit are; undefined before the first commit. */
export function journalOf(events: readonly RunEvent[], commit: CommitRecord | undefined): Journal | undefined {
  if (commit?.run === undefined) return undefined;
  const pids = new Map<string, number>(), ready = new Set<number>();
  let saved: Journal["saved"], seated: readonly string[] = [], started = 0;
  for (const event of events) {
    if (event.kind === "saved") saved = { step: event.step, folder: event.folder, digest: event.digest };
    if (event.kind === "started") pids.set(event.actor, event.pid);
    if (event.kind === "ready") ready.add(pids.get(event.actor) ?? -1);
    if (event.kind === "regrouping") seated = event.trainers;
    if (event.kind !== "starting") continue;
    started = event.attempt;
    seated = event.actors.map(({ id }) => id).filter((id) => id.startsWith("trainer-"));
  }
  // All have started anew since: they have the state of a checkpoint, not that after the commit.
  if (commit.epoch < started) seated = [];
  return { commit, ready, seated, ...(saved === undefined ? {} : { saved }) };
}

/** What a host tells of actors that live there. */
export type Living = readonly { readonly id: string; readonly role: string; readonly attempt: number }[];

/** Time for hosts and actors to come back, before the controller goes on with those that did. */
export const adoptMs = 4_000;

/** Whether all hosts are there, and all actors that they told of. */
export function allBack(state: ControllerState, hosts: number): boolean {
  return state.hosts.length >= hosts && [...state.found.keys()].every((id) => state.urls.has(id));
}

/**
 * Takes the actors that have come back as those of this run, before the step that follows the journal's last; the change
 * that begins their epoch, in which the others start anew. Undefined when no trainer has come back.
 */
export function adopt(
  state: ControllerState,
  { config, adopt }: ControllerOptions,
  now: number,
): Change | undefined {
  if (adopt === undefined) return undefined;
  const back = [...state.found].filter(([id, { host }]) =>
    state.urls.has(id) && state.hosts.includes(host) && adopt.ready.has(state.pids.get(id) ?? -1)
  );
  const trainers = back.filter(([, { role }]) => role === "trainer").map(([id]) => id);
  const seated = trainers.filter((id) => adopt.seated.includes(id));
  if (seated.length === 0) return undefined;
  const { replicas, cluster, method } = config;
  const here = new Map(back);
  const placed = (id: string, role: Role): Placement => ({
    id,
    role,
    host: here.get(id)?.host ?? state.hosts[0],
    index: Number(/\d+$/.exec(id)?.[0] ?? 0),
  });
  const others = placeActors(state.hosts, { trainers: 1, shards: cluster.syncShards, method: method.name })
    .filter(({ role }) => role !== "trainer");
  state.placements = [
    ...others.map(({ id, role, host }) => here.has(id) ? placed(id, role) : { ...placed(id, role), host }),
    ...trainers.map((id) => placed(id, "trainer")),
  ];
  state.seats = seatReplicas(replicas, seated);
  for (const id of trainers) {
    if (!seated.includes(id)) state.joining.set(id, { stage: "ready", followed: -1, failures: 0, since: now });
  }
  for (const { id } of state.placements) {
    const attempt = here.get(id)?.attempt;
    if (attempt === undefined) continue;
    state.ready.add(id);
    state.starts.set(id, attempt);
  }
  // Whoever is not taken over is a stranger until its successor says hello.
  for (const id of state.found.keys()) if (!here.has(id)) state.urls.delete(id);
  rememberRun(state, adopt);
  return { lost: others.map(({ id }) => id).filter((id) => !here.has(id)) };
}

/** Nobody is taken over: the actors that hosts carry are ended, and what all of them have told is forgotten. */
export function endFound(state: ControllerState): Effect[] {
  const hosts = new Set([...state.found.values()].map(({ host }) => host));
  state.found.clear();
  const gone = dropStrangers(state);
  return [...gone, ...[...hosts].map((host) => halt(host, ++state.attempt))];
}

/** Actors that no host tells of are let go, as those of a host that has died with the controller. */
export function dropStrangers(state: ControllerState): Effect[] {
  // A host may be about to tell.
  const strange = [...state.urls.keys()].filter((id) => !state.found.has(id) && roleOf(id) !== "host");
  for (const id of strange) forget(state, id);
  if (strange.length === 0) return [];
  return [{ kind: "disconnect", peers: strange, reason: "no host tells of it", below: ++state.attempt }];
}

/** An actor is gone before it was taken over: it is started anew with the others. */
export function forgetFound(state: ControllerState, message: Message, from: string): Effect[] {
  const gone = message.type === "actor-exited" ? message.actor : message.type === "peer-down" ? message.peer : from;
  if (message.type !== "actor-exited" && message.type !== "peer-down" && message.type !== "failed") return [];
  state.found.delete(gone);
  state.urls.delete(gone);
  state.hosts = state.hosts.filter((host) => host !== gone);
  return [];
}

function rememberRun(state: ControllerState, { commit, saved }: Journal): void {
  const { run: { steps, stepsPerEpoch, images, plateau }, step } = commit;
  Object.assign(state, { steps, stepsPerEpoch, images, step: step + 1, startedAt: step + 1 });
  state.plateau = nextPlateau.parse({ plateau });
  state.restarts = { ...state.restarts, furthest: step + 1 };
  if (saved !== undefined && saved.step <= step + 1) state.saved = saved;
  // One that was being written may have been lost.
  state.owed = state.saved?.step !== step + 1;
}
