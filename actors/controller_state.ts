/**
 * What the controller of a run remembers, and the options and ports it is made with. Data only: the decisions are in
 * `controller.ts`.
 */
import type { TrainConfig } from "../config.ts";
import { PLATEAU_START, type PlateauState } from "../optim/schedule.ts";
import type { Message } from "../wire/messages.ts";
import type { Journal } from "./adopt.ts";
import type { ActorStatus, RunEvent, RunStatus } from "./events.ts";
import { evaluatorStatus, noProbing, type Probing } from "./probing.ts";
import { NO_RESTARTS, type Restarts } from "./recovery.ts";
import type { Orphan } from "./orphans.ts";
import type { Newcomer, Regrouping } from "./regroup.ts";
import { actorIds, type Placement, type TrainerSeat } from "./seats.ts";
import type { StepDone } from "./step_record.ts";

/** Options of a controller. */
export interface ControllerOptions {
  readonly config: TrainConfig;
  /** Hosts to wait for. */
  readonly hosts: number;
  /** Continue from the newest valid checkpoint, or from that of a step. */
  readonly resume?: { readonly step?: number };
  /** Recorded variants of kernels, the same for every trainer; each takes its defaults when absent. */
  readonly choices?: Readonly<Record<string, string>>;
  /** Starts of the run's actors before this controller's; its attempts count on from there. @default 0 */
  readonly attempt?: number;
  /** Longest wait for hosts, after which the run starts with those that came. @default as long as it takes */
  readonly hostsMs?: number;
  /** Go on with the actors of a controller before this one that are found alive. @default start all anew */
  readonly adopt?: Journal;
  /** Digest of this program: hosts with another are refused. @default any is let in */
  readonly code?: string;
  /** Write a checkpoint before this step and end there, as Ctrl-C does. */
  readonly stopBeforeStep?: number;
}

/** What the controller reaches outside itself. */
export interface ControllerPorts {
  /** Takes what the run reports. */
  emit(event: RunEvent): void;
  /** Monotonic milliseconds. */
  now(): number;
  /** Ends the local host, if it lives, and starts another; absent where there is none to be had. */
  replaceLocalHost?(): void;
}

/** The controller's memory. */
export interface ControllerState {
  phase:
    | "hosts"
    | "halting"
    | "starting"
    | "configuring"
    | "restoring"
    | "training"
    | "regrouping"
    | "judging"
    | "ended";
  hosts: string[];
  /** Number of the newest start of an actor, or change of who takes part, counted through the whole run. */
  attempt: number;
  /** Membership epoch: the attempt with which who takes part last changed. */
  epoch: number;
  /** Number of the start of each actor that is placed. */
  readonly starts: Map<string, number>;
  /** Trainers on their way to replicas. */
  readonly joining: Map<string, Newcomer>;
  /** Whose answers the epoch waits for. */
  regrouping: Regrouping;
  /** Links between two actors that one of them has told to be broken, each once. */
  readonly broken: Map<string, readonly [string, string]>;
  /** Actors of an earlier controller that its hosts tell of, and where they are. */
  readonly found: Map<string, { readonly host: string; readonly role: string; readonly attempt: number }>;
  /** Processes of a local host that was lost, by number, until the one in its place watches over them. */
  readonly orphans: Map<number, Orphan>;
  /** Starts of actors that have outlived their host, of whose end nobody knows more than their links tell. */
  readonly outlived: Map<string, number>;
  /** Losses of the local host since one was last there. */
  hostLosses: number;
  /** Trainers whose parts of a late step are waited for, by how many say so; undefined until somebody was asked. */
  lacking: Map<string, number> | undefined;
  /** Hosts that are about to go. */
  readonly leaving: Set<string>;
  /** Whether the next step waits for a newcomer that lags behind. */
  held: boolean;
  /** That of this controller's first start. */
  readonly firstAttempt: number;
  restarts: Restarts;
  /** Hosts that still end the actors of the attempt before. */
  halting: Set<string>;
  placements: Placement[];
  seats: TrainerSeat[];
  /** Address of each actor that said hello; null for those that do not listen. */
  urls: Map<string, string | null>;
  pids: Map<string, number>;
  ready: Set<string>;
  /** Whether the checkpointer has read the checkpoint to resume from. */
  loaded: boolean;
  restored: Set<string>;
  /** Last message of each actor, monotonic milliseconds. */
  heardAt: Map<string, number>;
  /** Last pulse of each actor that has one, monotonic milliseconds. */
  pulses: Map<string, number>;
  /** When pulses were last looked at. */
  pulsesAt: number;
  /** Links lost, with the reason, until a better-informed report arrives. */
  lost: Map<string, string>;
  /** Last log lines of each actor. */
  tails: Map<string, readonly string[]>;
  images: number;
  stepsPerEpoch: number;
  steps: number;
  /** The step being taken, or to be taken next. */
  step: number;
  /** Whether trainers are at the step. */
  stepping: boolean;
  /** The step that this run began or was resumed with. */
  startedAt: number;
  /** Steps taken since this start or restart. */
  stepsTaken: number;
  learningRate: number;
  plateau: PlateauState;
  reports: Map<string, StepDone>;
  /** Losses by replica of the steps taken since the newest checkpoint, which a restart takes again. */
  taken: Map<number, readonly number[]>;
  /** Prototype perplexity by step. */
  perplexity: Map<number, number>;
  stepAt: number;
  firstStepAt: number;
  /** Step whose checkpoint is being written. */
  saving: number | undefined;
  /** Whether a checkpoint was lost on its way, and is to be taken anew. */
  owed: boolean;
  saved: { step: number; folder: string; digest: string } | undefined;
  /** Whether the next step waits for the checkpoint being written. */
  heldBack: boolean;
  interrupted: boolean;
  probing: Probing;
}

/** The memory of a controller that has heard of nobody. */
export function initialState(attempt = 0): ControllerState {
  return {
    phase: "hosts",
    hosts: [],
    attempt,
    epoch: attempt,
    starts: new Map(),
    joining: new Map(),
    regrouping: { waiting: new Set(), admitted: [] },
    broken: new Map(),
    found: new Map(),
    orphans: new Map(),
    outlived: new Map(),
    hostLosses: 0,
    lacking: undefined,
    leaving: new Set(),
    held: false,
    firstAttempt: attempt,
    restarts: NO_RESTARTS,
    halting: new Set(),
    placements: [],
    seats: [],
    urls: new Map(),
    pids: new Map(),
    ready: new Set(),
    loaded: false,
    restored: new Set(),
    heardAt: new Map(),
    pulses: new Map(),
    pulsesAt: 0,
    lost: new Map(),
    tails: new Map(),
    images: 0,
    stepsPerEpoch: 1,
    steps: 0,
    step: 0,
    startedAt: 0,
    stepping: false,
    stepsTaken: 0,
    learningRate: 0,
    plateau: PLATEAU_START,
    reports: new Map(),
    taken: new Map(),
    perplexity: new Map(),
    stepAt: 0,
    firstStepAt: 0,
    saving: undefined,
    owed: false,
    saved: undefined,
    heldBack: false,
    interrupted: false,
    probing: noProbing(),
  };
}

/** Those of `expected` that `present` lacks. */
export function missing(expected: readonly string[], present: { has(id: string): boolean }): string[] {
  return expected.filter((id) => !present.has(id));
}

/** Whom a new epoch still waits for: answers of the survivors, starts of actors that the steps need. */
export function awaitedByEpoch(state: ControllerState): string[] {
  const needed = state.placements.map(({ id }) => id).filter((id) => !state.joining.has(id));
  return [...new Set([...state.regrouping.waiting, ...missing(needed, state.ready)])];
}

/** Whether the run has an actor of this name, the evaluator apart. */
export function isPlaced(state: ControllerState, id: string): boolean {
  return state.placements.some((placement) => placement.id === id);
}

/** Whether the wait of this name is still under way: its alarm may have been on its way when it was cancelled. */
export function isWaiting(state: ControllerState, name: string): boolean {
  switch (name) {
    case "step":
      return state.phase === "training" && state.stepping;
    case "saving":
      return state.saving !== undefined;
    case "hosts":
      return state.phase === "hosts" || state.phase === "halting";
    default:
      return state.phase === name;
  }
}

/** Passes on what an actor tells people, and remembers its last lines. */
export function passOn(
  state: ControllerState,
  message: Extract<Message, { type: "images-replaced" | "log-lines" }>,
  { emit }: ControllerPorts,
): void {
  if (message.type === "images-replaced") {
    return emit({ kind: "images-replaced", step: message.step, images: message.images });
  }
  state.tails.set(message.actor, [...tailOf(state, message.actor), ...message.lines].slice(-20));
  emit({ kind: "log", actor: message.actor, lines: message.lines });
}

/** The last log lines of an actor. */
export function tailOf(state: ControllerState, actor: string): readonly string[] {
  return state.tails.get(actor) ?? [];
}

/** Whom the wait of this name is for, and what for; `undefined` for names that are no waits. */
export function waitOf(
  state: ControllerState,
  name: string,
  hosts: number,
): { readonly on: readonly string[]; readonly doing: string } | undefined {
  const placed = state.placements.map(({ id }) => id);
  const trainers = state.seats.map(({ id }) => id);
  switch (name) {
    case "hosts":
      return state.phase === "halting"
        ? { on: [actorIds.localHost], doing: "start anew" }
        : { on: [`${hosts - state.hosts.length} more hosts`], doing: "join" };
    case "starting":
      return { on: missing(placed, state.urls), doing: "start" };
    case "configuring":
      return { on: missing(placed, state.ready), doing: "get ready" };
    case "restoring":
      return state.loaded
        ? { on: missing(trainers, state.restored), doing: "take the checkpoint" }
        : { on: [actorIds.checkpointer], doing: "read the checkpoint" };
    case "regrouping":
      return { on: awaitedByEpoch(state), doing: `join epoch ${state.epoch}` };
    case "step":
      return { on: missing(trainers, state.reports), doing: `finish step ${state.step}` };
    case "judging":
      return { on: [actorIds.evaluator], doing: "judge the last snapshot" };
    case "saving":
      return { on: [actorIds.checkpointer], doing: `write the checkpoint before step ${state.saving}` };
  }
}

/** Where one actor stands. */
function standing(state: ControllerState, id: string): Pick<ActorStatus, "state" | "step"> {
  const newcomer = state.joining.get(id);
  if (newcomer?.stage === "observing") return { state: "following", step: newcomer.followed + 1 };
  const started = state.urls.has(id) ? state.ready.has(id) ? "ready" : "started" : "starting";
  return { state: started, step: state.seats.some((seat) => seat.id === id) ? state.step : null };
}

/** Where the run and its actors stand at `now`. */
export function statusOf(state: ControllerState, now: number): RunStatus {
  const waits: Partial<Record<ControllerState["phase"], string>> = {
    hosts: "hosts",
    starting: "starting",
    configuring: "configuring",
    restoring: "restoring",
    training: "step",
    regrouping: "regrouping",
    judging: "judging",
  };
  const wait = waitOf(state, waits[state.phase] ?? "", state.hosts.length);
  return {
    phase: state.phase,
    attempt: state.attempt,
    epoch: state.epoch,
    step: state.step,
    steps: state.steps,
    savedStep: state.saved?.step ?? null,
    waitsFor: wait === undefined ? [] : [...wait.on],
    actors: [
      ...state.placements.map(({ id, role, host }): ActorStatus => ({
        id,
        role,
        host,
        pid: state.urls.has(id) ? state.pids.get(id) ?? null : null,
        attempt: state.starts.get(id) ?? 0,
        ...standing(state, id),
        lastHeardMs: state.urls.has(id) ? Math.round(now - (state.heardAt.get(id) ?? now)) : null,
      })),
      ...evaluatorStatus(state, now),
    ],
  };
}
