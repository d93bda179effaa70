/**
 * What the controller of a run remembers, and the options and ports it is made with. Data only: the decisions are in
 * `controller.ts`.
 */
import type { TrainConfig } from "../config.ts";
import { PLATEAU_START, type PlateauState } from "../optim/schedule.ts";
import type { RunEvent } from "./events.ts";
import type { Placement, TrainerSeat } from "./seats.ts";
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
  /** Write a checkpoint before this step and end there, as Ctrl-C does. */
  readonly stopBeforeStep?: number;
}

/** What the controller reaches outside itself. */
export interface ControllerPorts {
  /** Takes what the run reports. */
  emit(event: RunEvent): void;
  /** Monotonic milliseconds. */
  now(): number;
}

/** The controller's memory. */
export interface ControllerState {
  phase: "hosts" | "starting" | "configuring" | "restoring" | "training" | "ended";
  hosts: string[];
  placements: Placement[];
  seats: TrainerSeat[];
  /** Address of each actor that said hello; null for those that do not listen. */
  urls: Map<string, string | null>;
  ready: Set<string>;
  /** Whether the checkpointer has read the checkpoint to resume from. */
  loaded: boolean;
  restored: Set<string>;
  /** Last message of each actor, monotonic milliseconds. */
  heardAt: Map<string, number>;
  /** Links lost, with the reason, until a better-informed report arrives. */
  lost: Map<string, string>;
  /** Last log lines of each actor. */
  tails: Map<string, readonly string[]>;
  images: number;
  stepsPerEpoch: number;
  steps: number;
  /** The step being taken, or to be taken next. */
  step: number;
  /** Steps taken since this start. */
  stepsTaken: number;
  learningRate: number;
  plateau: PlateauState;
  reports: Map<string, StepDone>;
  /** Prototype perplexity by step. */
  perplexity: Map<number, number>;
  stepAt: number;
  firstStepAt: number;
  /** Step whose checkpoint is being written. */
  saving: number | undefined;
  saved: { step: number; folder: string; digest: string } | undefined;
  /** Whether the next step waits for the checkpoint being written. */
  heldBack: boolean;
  interrupted: boolean;
}

/** The memory of a controller that has heard of nobody. */
export function initialState(): ControllerState {
  return {
    phase: "hosts",
    hosts: [],
    placements: [],
    seats: [],
    urls: new Map(),
    ready: new Set(),
    loaded: false,
    restored: new Set(),
    heardAt: new Map(),
    lost: new Map(),
    tails: new Map(),
    images: 0,
    stepsPerEpoch: 1,
    steps: 0,
    step: 0,
    stepsTaken: 0,
    learningRate: 0,
    plateau: PLATEAU_START,
    reports: new Map(),
    perplexity: new Map(),
    stepAt: 0,
    firstStepAt: 0,
    saving: undefined,
    saved: undefined,
    heldBack: false,
    interrupted: false,
  };
}

/** Those of `expected` that `present` lacks. */
export function missing(expected: readonly string[], present: { has(id: string): boolean }): string[] {
  return expected.filter((id) => !present.has(id));
}

/** The last log lines of an actor. */
export function tailOf(state: ControllerState, actor: string): readonly string[] {
  return state.tails.get(actor) ?? [];
}
