/**
 * The table of faults that a run is put through: who is hit, in which phase, and how; and at which message of which actor a
 * phase is caught. Data only; `fault_tour.ts` carries it out.
 */
import type { RunEvent } from "../actors/events.ts";
import type { Breakpoint } from "../actors/runtime/breakpoints.ts";

/** Moments of a run, in the order of a step; those of a trainer that joins come last. */
export const phases = [
  "idle",
  "data",
  "forward",
  "sinkhorn",
  "backward",
  "reduce",
  "prepared",
  "update",
  "checkpoint",
  "writing",
  "join: configured",
  "join: restoring",
  "join: following",
] as const;

/** Moments at which the controller alone is hit: around a step's commit, and while it takes over from another. */
export const controllerPhases = ["vote", "commit", "takeover"] as const;

/** A moment of a run. */
export type Phase = typeof phases[number] | typeof controllerPhases[number];

/** Who is hit; trainers by what they carry, or by being on their way. */
export type Victim =
  | "loader"
  | "trainer of replica 0"
  | "other trainer"
  | "gpu worker"
  | "newcomer"
  | "sync shard"
  | "sinkhorn"
  | "checkpointer"
  | "local host"
  | "joined host"
  | "controller";

/** How: it dies, is frozen, its main thread stands still, or it lives and its link to a sync shard breaks. */
export type Blow = "killed" | "frozen" | "stuck" | "cut off";

/** One fault. */
export interface Cell {
  readonly victim: Victim;
  readonly phase: Phase;
  readonly blow: Blow;
}

/** Who stands still when the phase has come: the victim itself where a trainer is one, else one that knows. */
export type Watch = "trainer" | "sync-0" | "sinkhorn" | "checkpointer" | "loader-0" | "newcomer";

/** Where a phase is caught: at a message, or where the controller has written an event down and sent nothing of it. */
export type Moment =
  | { readonly watch: Watch; readonly at: Breakpoint }
  | { readonly watch: "controller"; readonly at: RunEvent["kind"] };

/** Where each phase is caught. */
export const moments: Readonly<Record<Phase, Moment>> = {
  // The order for the next step is there and nothing of it is done.
  "idle": { watch: "trainer", at: { on: "receive", type: "step" } },
  // The loader has made a batch that it has not sent.
  "data": { watch: "loader-0", at: { on: "send", type: "batch" } },
  // The first sum of a batch normalisation is on its way.
  "forward": { watch: "trainer", at: { on: "send", type: "contribute", key: "statistics/" } },
  // All replicas' scores are sent, none has its codes.
  "sinkhorn": { watch: "sinkhorn", at: { on: "receive", type: "scores", nth: 2 } },
  "backward": { watch: "trainer", at: { on: "send", type: "contribute", key: "/gradient@" } },
  // A shard has some of a gradient's parts and not all.
  "reduce": { watch: "sync-0", at: { on: "receive", type: "contribute", key: "gradient/", nth: 2 } },
  // The last trainer has told that it is ready for the commit, which is on its way.
  "prepared": { watch: "trainer", at: { on: "send", type: "prepared", after: true } },
  // The commit has arrived at one trainer and is not carried out.
  "update": { watch: "trainer", at: { on: "receive", type: "commit" } },
  // Parts of a snapshot have arrived, others have not.
  "checkpoint": { watch: "checkpointer", at: { on: "receive", type: "snapshot-part", nth: 3 } },
  // All have, and the files are being written.
  "writing": { watch: "checkpointer", at: { on: "receive", type: "snapshot-end", after: true } },
  // All trainers are ready for the commit, one has not told: nothing is written down.
  "vote": { watch: "trainer", at: { on: "send", type: "prepared" } },
  // The commit is written down and nobody was told.
  "commit": { watch: "controller", at: "commit" },
  // Another controller has begun its epoch, of which nobody was told.
  "takeover": { watch: "controller", at: "regrouping" },
  "join: configured": { watch: "newcomer", at: { on: "receive", type: "configure" } },
  "join: restoring": { watch: "newcomer", at: { on: "receive", type: "state-part", nth: 3 } },
  // It has taken a step of the others' and has not told.
  "join: following": { watch: "newcomer", at: { on: "send", type: "followed" } },
};

const kill = (victim: Victim, ...at: readonly Phase[]): Cell[] =>
  at.map((phase) => ({ victim, phase, blow: "killed" }));

/** Victims on one host that the others outlive. */
const mended: readonly Victim[] = [
  "loader",
  "trainer of replica 0",
  "other trainer",
  "gpu worker",
  "sync shard",
  "sinkhorn",
  "checkpointer",
];

const stepPhases = phases.filter((phase) => !phase.startsWith("join"));
const joinPhases = phases.filter((phase) => phase.startsWith("join"));

/** Every role in every phase, on one host. */
export const allCells: readonly Cell[] = [
  ...mended.flatMap((victim) => kill(victim, ...stepPhases)),
  ...(["loader", "sync shard", "sinkhorn", "checkpointer", "newcomer"] as const).flatMap((victim) =>
    kill(victim, ...joinPhases)
  ),
  { victim: "other trainer", phase: "reduce", blow: "frozen" },
  { victim: "other trainer", phase: "forward", blow: "cut off" },
  { victim: "other trainer", phase: "backward", blow: "cut off" },
  { victim: "sync shard", phase: "reduce", blow: "frozen" },
  { victim: "sync shard", phase: "reduce", blow: "stuck" },
  ...kill("trainer of replica 0", ...joinPhases),
  ...kill("local host", ...phases),
  ...kill("joined host", ...phases),
  { victim: "joined host", phase: "reduce", blow: "frozen" },
  ...kill("controller", ...phases, ...controllerPhases),
  { victim: "controller", phase: "reduce", blow: "frozen" },
  { victim: "controller", phase: "commit", blow: "stuck" },
];

/** Those that a test has time for: each role and each phase at least once. */
export const fewCells: readonly Cell[] = [
  ...kill("loader", "idle", "data"),
  ...kill("trainer of replica 0", "update", "checkpoint"),
  ...kill("other trainer", "forward"),
  ...kill("gpu worker", "backward"),
  ...kill("sync shard", "reduce", "join: restoring"),
  ...kill("sinkhorn", "sinkhorn", "prepared"),
  ...kill("checkpointer", "checkpoint", "writing"),
  ...kill("newcomer", "join: configured", "join: restoring", "join: following"),
  { victim: "other trainer", phase: "backward", blow: "cut off" },
  ...kill("local host", "reduce"),
];

/** Those of the controller that a test has time for: around the commit, and with a checkpoint under way. */
export const fewControllerCells: readonly Cell[] = kill(
  "controller",
  "vote",
  "commit",
  "prepared",
  "update",
  "checkpoint",
  "takeover",
);

/** Whether a fault may end with all started anew: the last trainer is gone. */
export function mayRestart({ victim, phase }: Cell): boolean {
  return victim === "trainer of replica 0" && phase.startsWith("join");
}

/** A fault in words. */
export function nameOf({ victim, phase, blow }: Cell): string {
  return `${victim} ${blow} in ${phase}`;
}
