/** What the threads of `bench/protected_step.ts` tell each other. */
import type { TrainConfig } from "../config.ts";
import type { Provider } from "../device/device.ts";

/** The arms that are compared. */
export const armNames = ["with protection", "without"] as const;

/** One of {@linkcode armNames}. */
export type ArmName = typeof armNames[number];

/** Parts of a step by what the engine waits for next, in order. */
export const phaseNames = ["to codes", "to the last gradient sent", "to the report", "to the moved weights"] as const;

/** Milliseconds of each phase. */
export type Phases = Readonly<Record<typeof phaseNames[number], number>>;

/** The secret of the benchmark's links. */
export const benchToken = "bench";

/** What the controller of an arm saw of its protection. */
export interface SignsOfProtection {
  /** Lines of the commit log. */
  readonly commits: number;
  readonly heartbeats: number;
  readonly pulses: number;
}

/** To the other actors. */
export type ActorsOrder =
  | { readonly what: "open"; readonly config: TrainConfig; readonly provider: Provider | "auto" }
  | { readonly what: "take"; readonly arm: ArmName; readonly step: number }
  | { readonly what: "close" };

/** From the other actors. */
export type ActorsNews =
  | { readonly what: "open"; readonly urls: Readonly<Record<ArmName, Readonly<Record<string, string>>>> }
  | { readonly what: "ready"; readonly arm: ArmName }
  | { readonly what: "prepared"; readonly arm: ArmName; readonly step: number; loss: number; weights: string }
  | { readonly what: "pulse"; readonly from: string }
  | { readonly what: "closed"; readonly arm: ArmName } & SignsOfProtection;

/** To the engines. */
export type EnginesOrder =
  | { readonly what: "begin"; readonly arm: ArmName; readonly port: MessagePort }
  | { readonly what: "state"; readonly arm: ArmName; readonly step: number }
  | { readonly what: "close" };

/** From the engines. */
export type EnginesNews =
  | { readonly what: "settled"; readonly arm: ArmName; readonly step: number; readonly phases: Phases }
  | { readonly what: "state"; readonly arm: ArmName; readonly digest: string }
  | { readonly what: "closed" };
