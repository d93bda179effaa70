/**
 * Who may send which message to whom, by role, with the largest size and the rate of each. A link checks it before it
 * decodes a message's body ("deny by default": what is not listed is refused). It knows no actor's behaviour.
 */
import type { Policy } from "../wire/admission.ts";
import { actorIds } from "./seats.ts";

/** The roles that speak over links; `gpu` is the Worker of a trainer, evaluator or extractor. */
export const speakingRoles = [
  "controller",
  "host",
  "loader",
  "trainer",
  "sync",
  "sinkhorn",
  "checkpointer",
  "evaluator",
  "extractor",
  "gpu",
] as const;

/** A role that speaks over links. */
export type SpeakingRole = typeof speakingRoles[number];

type Roles = readonly SpeakingRole[];

/** One line of the table. */
export interface Rule {
  readonly from: Roles;
  readonly to: Roles;
  /** Whether it carries tensors: as large as a link allows, and as often as it comes. */
  readonly bulk?: boolean;
}

/** The actors that a host starts. */
const workers: Roles = ["loader", "trainer", "sync", "sinkhorn", "checkpointer", "evaluator", "extractor"];
const everyone: Roles = ["host", ...workers];
/** The actors that the steps hang on. */
const steppers: Roles = ["loader", "trainer", "sync", "sinkhorn", "checkpointer"];
const controller: Roles = ["controller"];
const host: Roles = ["host"];
const trainer: Roles = ["trainer"];
const checkpointer: Roles = ["checkpointer"];

/** The table: a message's type, then from whom to whom. Types without a line travel between no roles. */
export const whoMaySend: Readonly<Record<string, Rule>> = {
  "hello": { from: everyone, to: controller },
  "heartbeat": { from: everyone, to: controller },
  "pulse": { from: everyone, to: controller },
  "failed": { from: everyone, to: controller },
  "log": { from: everyone, to: controller },
  "directory": { from: controller, to: workers },
  "renewed": { from: controller, to: workers },
  "stop": { from: controller, to: everyone },
  "configure": { from: controller, to: workers },
  "ready": { from: workers, to: controller },
  "host-ready": { from: host, to: controller },
  "spawn": { from: controller, to: host },
  "take-over": { from: controller, to: host },
  "halt": { from: controller, to: host },
  "halted": { from: host, to: controller },
  "actor-exited": { from: host, to: controller },
  "log-lines": { from: everyone, to: controller },
  "leaving": { from: host, to: controller },
  "regroup": { from: controller, to: steppers },
  "regrouped": { from: steppers, to: controller },
  "unreachable": { from: steppers, to: controller },
  "step": { from: controller, to: trainer },
  "prepared": { from: trainer, to: controller },
  "inquire": { from: controller, to: ["sync", "sinkhorn"] },
  "lacks": { from: ["sync", "sinkhorn"], to: controller },
  "commit": { from: controller, to: trainer },
  "observe": { from: controller, to: trainer },
  "followed": { from: trainer, to: controller },
  "share-state": { from: controller, to: trainer },
  "assignment": { from: ["sinkhorn"], to: controller },
  "want-batch": { from: trainer, to: ["loader"] },
  "batch": { from: ["loader"], to: trainer, bulk: true },
  "source": { from: ["loader"], to: controller },
  "images-replaced": { from: ["loader"], to: controller },
  "contribute": { from: trainer, to: ["sync"], bulk: true },
  "reduced": { from: ["sync"], to: trainer, bulk: true },
  "scores": { from: trainer, to: ["sinkhorn"], bulk: true },
  "codes": { from: ["sinkhorn"], to: trainer, bulk: true },
  "save": { from: controller, to: ["trainer", "checkpointer"] },
  "snapshot-part": { from: trainer, to: checkpointer, bulk: true },
  "snapshot-end": { from: trainer, to: checkpointer },
  "snapshot-unfit": { from: checkpointer, to: controller },
  "saved": { from: checkpointer, to: controller },
  "load": { from: controller, to: checkpointer },
  "loaded": { from: checkpointer, to: controller },
  "state-part": { from: ["checkpointer", "trainer"], to: trainer, bulk: true },
  "state-end": { from: ["checkpointer", "trainer"], to: trainer },
  "restored": { from: trainer, to: controller },
  "probe": { from: controller, to: ["evaluator"] },
  "probed": { from: ["evaluator"], to: controller },
  "extractor-open": { from: controller, to: ["extractor"] },
  "weights-part": { from: controller, to: ["extractor"], bulk: true },
  "extract": { from: controller, to: ["extractor"], bulk: true },
  "extracted": { from: ["extractor"], to: controller, bulk: true },
  // Between no roles: an actor tells itself, or tests use it.
  "alarm": { from: [], to: [] },
  "peer-down": { from: [], to: [] },
  "rejoined": { from: [], to: [] },
  "ping": { from: [], to: [] },
  "pong": { from: [], to: [] },
};

/** Largest message without tensors. */
export const controlBytesMax = 16 * 1024 * 1024;
/** Messages without tensors that a link takes a second, in the long run. */
export const controlRate = 2_000;

const single: ReadonlyMap<string, SpeakingRole> = new Map<string, SpeakingRole>([
  [actorIds.controller, "controller"],
  [actorIds.checkpointer, "checkpointer"],
  [actorIds.sinkhorn, "sinkhorn"],
  ["evaluator", "evaluator"],
  ["gpu", "gpu"],
]);
const numbered: Roles = ["host", "loader", "trainer", "sync", "evaluator", "extractor"];

/** The role that an actor's id stands for: `trainer-3` is a trainer; undefined for a foreign id. */
export function roleOf(id: string): SpeakingRole | undefined {
  const [, prefix] = /^([a-z]+)-[\w-]{1,64}$/.exec(id) ?? [];
  return single.get(id) ?? numbered.find((role) => role === prefix);
}

/** The table as links take it. */
export const runPolicy: Policy = {
  roleOf,
  maySend(type, { from, to }) {
    // A Worker speaks for the actor whose thread it is, which passes its messages on under its own name.
    if (from === "gpu") return ruleOf(type)?.from.some((role) => role === to) ?? false;
    const rule = ruleOf(type);
    return rule !== undefined && rule.from.some((role) => role === from) && rule.to.some((role) => role === to);
  },
  bytesMax: (type) => ruleOf(type)?.bulk === true ? Infinity : controlBytesMax,
  ratePerSecond: (type) => ruleOf(type)?.bulk === true ? Infinity : controlRate,
};

function ruleOf(type: string): Rule | undefined {
  return Object.hasOwn(whoMaySend, type) ? whoMaySend[type] : undefined;
}
