/**
 * What the controller does as hosts come and go: waits for those of the run, takes over from a controller before it, fills
 * up with what a host that joins can carry, has the host beside it replaced. What becomes of steps is decided elsewhere.
 */
import { otherCode } from "./code_digest.ts";
import { allBack, dropStrangers, endFound, type Living } from "./adopt.ts";
import { type ControllerOptions, type ControllerPorts, type ControllerState, tailOf } from "./controller_state.ts";
import type { RunFailure } from "./events.ts";
import { giveOrphans, outliveHost } from "./orphans.ts";
import { backoffMs, halted, haltTimeoutMs } from "./recovery.ts";
import { forget } from "./regroup.ts";
import type { RegroupDriver } from "./regroup_driver.ts";
import type { Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";
import { halt } from "./start_orders.ts";
import { alarm, type Cause, lostCause } from "./watch.ts";

const { localHost } = actorIds;

/** What a host tells of itself when it comes. */
export interface HostReady {
  readonly host: string;
  readonly adapters: readonly string[];
  /** Digest of its code. */
  readonly code: string | undefined;
  readonly living: Living;
}

/** What the controller does when hosts have come or gone. */
export interface HostTurns {
  /** Starts all actors. */
  startActors(state: ControllerState): Effect[];
  /** Something is lost. */
  fail(state: ControllerState, cause: Cause): Effect[];
}

/** Hosts that come and go; all that changes is in the state given to each call. */
export class HostDriver {
  constructor(
    private readonly options: ControllerOptions,
    private readonly ports: ControllerPorts,
    private readonly members: RegroupDriver,
    private readonly turns: HostTurns,
  ) {}

  get #startTimeoutMs(): number {
    return this.options.config.cluster.startTimeoutMs;
  }

  /** A host has come. */
  ready(state: ControllerState, { living, code, ...joined }: HostReady): Effect[] {
    const other = otherCode(joined.host, { theirs: code, ours: this.options.code });
    if (other !== undefined) return this.#refuse(state, joined.host, other);
    // One that comes back before its loss was acted on comes again after that.
    if (state.hosts.includes(joined.host)) {
      const lost = lostCause(state);
      return lost === undefined ? [] : this.turns.fail(state, lost);
    }
    const isLocal = joined.host === localHost;
    // The local host comes first, whoever joined before it.
    if (isLocal) state.hosts.unshift(joined.host);
    else state.hosts.push(joined.host);
    this.ports.emit({ kind: "host-joined", ...joined });
    if (state.phase === "hosts" && this.options.adopt !== undefined) {
      for (const { id, role, attempt } of living) state.found.set(id, { host: joined.host, role, attempt });
      return this.whenBack(state);
    }
    // What it carried belongs to nobody any more.
    const ends: Effect[] = living.length === 0 ? [] : [halt(joined.host, ++state.attempt)];
    const given = isLocal ? giveOrphans(state) : [];
    return [...ends, ...given, ...this.#joined(state, joined.host)];
  }

  /** Its trainers would compute other numbers than the others'. */
  #refuse(state: ControllerState, host: string, reason: string): Effect[] {
    this.ports.emit({ kind: "refused", reason, count: 1 });
    forget(state, host);
    return [{ kind: "send", to: host, message: { type: "stop", reason } }];
  }

  #joined(state: ControllerState, host: string): Effect[] {
    if (["training", "regrouping", "judging"].includes(state.phase)) return this.members.fillUp(state);
    if (state.phase !== "hosts") {
      // Its turn comes with the next start of the actors, or when those under way are at work.
      const awaited = state.phase === "halting" && host === localHost && state.halting.size === 0;
      return awaited ? this.whenHalted(state) : [];
    }
    if (state.hosts.length < this.options.hosts || state.hosts[0] !== localHost) return [];
    return [{ kind: "cancel-timer", name: "hosts" }, ...this.turns.startActors(state)];
  }

  /** Goes on with the actors of the controller before this one once all are back, or as many as came in time. */
  whenBack(state: ControllerState, { late = false } = {}): Effect[] {
    if (state.hosts[0] !== localHost || !late && !allBack(state, this.options.hosts)) return [];
    const cancels = ["hosts", "adopt"].map((name): Effect => ({ kind: "cancel-timer", name }));
    const strange = dropStrangers(state);
    const taken = this.members.takeOver(state);
    return [...cancels, ...strange, ...(taken ?? [...endFound(state), ...this.turns.startActors(state)])];
  }

  /** The host beside the controller is lost while its actors are at work: they go on, and another takes its place. */
  localLost(state: ControllerState, failure: RunFailure): Effect[] {
    state.hostLosses++;
    const effects = outliveHost(state, this.#startTimeoutMs);
    this.ports.emit({
      kind: "host-lost",
      failure,
      restart: state.hostLosses,
      restartsMax: this.options.config.cluster.restarts,
      attempt: state.attempt,
    });
    this.ports.replaceLocalHost?.();
    return effects;
  }

  /** A host has ended its actors. */
  halted(state: ControllerState, host: string): Effect[] {
    return halted(state, host) ? this.whenHalted(state) : [];
  }

  /** All hosts have ended their actors, which start anew as soon as the local host is there. */
  whenHalted(state: ControllerState): Effect[] {
    if (!state.hosts.includes(localHost)) return [alarm("hosts", this.#startTimeoutMs)];
    const delayMs = backoffMs(state.restarts.taken);
    const cancels = ["halting", "hosts"].map((name): Effect => ({ kind: "cancel-timer", name }));
    return [...cancels, ...(delayMs === 0 ? this.turns.startActors(state) : [alarm("restart", delayMs)])];
  }

  /** A host is gone while the actors are being ended: the others carry on without it. */
  lostWhileHalting(state: ControllerState, { host, error }: { host: string; error: string }): Effect[] {
    state.hosts = state.hosts.filter((id) => id !== host);
    if (host !== localHost) return this.halted(state, host);
    return this.turns.fail(state, { actor: host, error, lines: tailOf(state, host) });
  }

  /** Hosts take too long to end their actors. */
  haltLate(state: ControllerState): Effect[] {
    const lost = { error: `did not end its actors within ${haltTimeoutMs} ms` };
    return [...state.halting].flatMap((host) => this.lostWhileHalting(state, { host, ...lost }));
  }
}
