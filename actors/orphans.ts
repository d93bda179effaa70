/**
 * What becomes of the actors of the host beside the controller when that is lost: they outlive it and the run goes on, and
 * the host that takes its place watches over them. Pure decisions about the controller's memory.
 */
import type { ControllerState } from "./controller_state.ts";
import { haltEvaluator } from "./probing.ts";
import { forget } from "./regroup.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";
import { halt } from "./start_orders.ts";
import { alarm } from "./watch.ts";

const { localHost, evaluator } = actorIds;

/** A process whose host is gone. */
export interface Orphan {
  readonly id: string;
  readonly role: string;
  readonly attempt: number;
  readonly pid: number;
}

/** Takes the processes of the local host's actors down, before anything of them is forgotten. */
export function noteOrphans(state: ControllerState): void {
  const { probing, starts, urls, pids, orphans } = state;
  const note = (id: string, role: string, pid: number | null | undefined) => {
    if (pid !== null && pid !== undefined) orphans.set(pid, { id, role, attempt: starts.get(id) ?? 0, pid });
  };
  for (const { id, role, host } of state.placements) {
    if (host === localHost && urls.has(id)) note(id, role, pids.get(id));
  }
  if (isRunning(state)) note(evaluator, evaluator, probing.pid);
}

/** Whether the run goes on without its local host until another is there: its actors have to be at work. */
export function mayOutlive({ phase, hostLosses }: ControllerState, lossesMax: number): boolean {
  return (phase === "training" || phase === "regrouping" || phase === "judging") && hostLosses < lossesMax;
}

/** The local host is lost: its actors go on, but for those that have not said hello yet, which start with the next one. */
export function outliveHost(state: ControllerState, startTimeoutMs: number): Effect[] {
  noteOrphans(state);
  for (const { id, attempt } of state.orphans.values()) state.outlived.set(id, attempt);
  state.hosts = state.hosts.filter((host) => host !== localHost);
  forget(state, localHost);
  const unborn = state.placements.filter(({ id, host }) => host === localHost && !state.urls.has(id)).map(({ id }) =>
    id
  );
  for (const id of unborn) state.starts.delete(id);
  state.attempt++;
  return [
    { kind: "disconnect", peers: [localHost], reason: "it is lost" },
    { kind: "disconnect", peers: unborn, reason: "its host is lost", below: state.attempt },
    ...(isRunning(state) && state.probing.pid === null ? haltEvaluator(state) : []),
    alarm("local-host", startTimeoutMs),
  ];
}

/** Gives the local host what the one before it left behind; all of it is ended where all actors are to start anew. */
export function giveOrphans(state: ControllerState): Effect[] {
  const actors = [...state.orphans.values()];
  state.orphans.clear();
  const cancel: Effect = { kind: "cancel-timer", name: "local-host" };
  if (actors.length === 0) return [cancel];
  const take: Effect = { kind: "send", to: localHost, message: { type: "take-over", actors } };
  if (state.phase !== "halting") return [cancel, take];
  state.halting.add(localHost);
  return [cancel, take, halt(localHost, state.epoch)];
}

function isRunning({ probing }: ControllerState): boolean {
  return probing.evaluator !== "absent" && probing.evaluator !== "gone";
}
