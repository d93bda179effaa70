/**
 * Carries out changes of who takes part while the run goes on, and tells of them; what they are is decided in `regroup.ts`.
 */
import { adopt } from "./adopt.ts";
import type { ControllerOptions, ControllerPorts, ControllerState } from "./controller_state.ts";
import { leftInPeace } from "./host.ts";
import { outliveHost } from "./orphans.ts";
import { startEvaluator } from "./probing.ts";
import { countRestart } from "./recovery.ts";
import {
  allGone,
  beginEpoch,
  type Change,
  epochStands,
  fillUp,
  hasFollowed,
  replaceNewcomer,
  startLocal,
} from "./regroup.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";
import type { Cause } from "./watch.ts";

/** Changes of who takes part; all that changes is in the state given to each call. */
export class RegroupDriver {
  /** @param next Starts the next step. */
  constructor(
    private readonly options: ControllerOptions,
    private readonly ports: ControllerPorts,
    private readonly next: (state: ControllerState) => Effect[],
  ) {}

  /** Starts what hosts that have come since the others were started are to carry. */
  fillUp(state: ControllerState): Effect[] {
    const placed = new Set(state.placements);
    const isThere = state.hosts.includes(actorIds.localHost);
    const evaluator = isThere && state.probing.evaluator === "absent" ? startEvaluator(state, this.options.config) : [];
    if (state.phase === "judging") return evaluator;
    const local = isThere ? startLocal(state, this.options.config) : [];
    const effects = fillUp(state, this.options, this.ports.now());
    const actors = state.placements.filter((placement) => !placed.has(placement));
    if (actors.length > 0) this.ports.emit({ kind: "joining", actors, attempt: state.attempt });
    return [...local, ...evaluator, ...effects];
  }

  /** Goes on with the actors of a controller before this one; undefined when no trainer with a state has come back. */
  takeOver(state: ControllerState): Effect[] | undefined {
    const change = adopt(state, this.options, this.ports.now());
    if (change === undefined) return undefined;
    this.ports.emit({ kind: "adopted", step: state.step, actors: [...state.starts.keys()] });
    return [...startEvaluator(state, this.options.config), ...this.regroup(state, change)];
  }

  /** A newcomer tells how far it is. */
  followed(state: ControllerState, { id, step }: { id: string; step: number }): Effect[] {
    hasFollowed(state, id, { step, now: this.ports.now() });
    return state.held && state.phase === "training" ? this.next(state) : [];
  }

  /** Who takes part changes; the run goes on with what the others have. */
  regroup(state: ControllerState, change: Change): Effect[] {
    const { failure, admitted = [] } = change;
    if (failure !== undefined) countRestart(state, failure, this.ports.now());
    const { lost, hosts: gone } = allGone(state, change);
    // Its actors are not gone with it.
    const local = gone.includes(actorIds.localHost);
    const outlived = local ? outliveHost(state, this.options.config.cluster.startTimeoutMs) : [];
    const hosts = gone.filter((host) => host !== actorIds.localHost);
    const leaving = hosts.filter((host) => state.leaving.delete(host));
    const stops = leaving.map((to): Effect => ({ kind: "send", to, message: { type: "stop", reason: leftInPeace } }));
    const effects = beginEpoch(state, { ...change, lost, hosts }, {
      config: this.options.config,
      now: this.ports.now(),
    });
    this.ports.emit({
      kind: "regrouping",
      epoch: state.epoch,
      step: state.step,
      failure: failure ?? null,
      restart: failure === undefined ? 0 : state.restarts.taken,
      restartsMax: this.options.config.cluster.restarts,
      lost: [...new Set([...gone, ...lost])],
      joined: admitted,
      trainers: state.seats.map(({ id }) => id),
      attempt: state.attempt,
    });
    if (local) this.ports.replaceLocalHost?.();
    return [
      ...stops,
      ...outlived,
      ...effects,
      ...this.fillUp(state),
      ...this.whenEpochStands(state),
    ];
  }

  /** The epoch's first step begins when nobody is waited for any more. */
  whenEpochStands(state: ControllerState): Effect[] {
    const effects = epochStands(state);
    return effects === undefined ? [] : [...effects, ...this.next(state)];
  }

  /** A trainer on its way to replicas is gone. */
  newcomerLost(state: ControllerState, { actor, error }: Cause): Effect[] {
    const { effects, startsAnew } = replaceNewcomer(state, actor, {
      config: this.options.config,
      now: this.ports.now(),
    });
    this.ports.emit({ kind: "newcomer-lost", actor, error, startsAnew, attempt: state.attempt });
    return [...effects, ...(state.held && state.phase === "training" ? this.next(state) : [])];
  }
}
