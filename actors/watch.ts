/** How long actors have been silent, and timers as messages to oneself. Pure functions of the controller's memory. */
import type { ControllerState } from "./controller_state.ts";
import type { Effect } from "./runtime/behavior.ts";

/** Milliseconds since the last message or heartbeat of `id`. */
export function silentMs(state: ControllerState, id: string, { now }: { now: number }): number {
  return now - (state.heardAt.get(id) ?? now);
}

/** The started actor heard of longest ago, if that is over `limitMs` ago; when all are silent, this process was late. */
export function silentActor(
  state: ControllerState,
  { limitMs, now }: { limitMs: number; now: number },
): string | undefined {
  const started = [...state.urls.keys()];
  const silence = (id: string) => silentMs(state, id, { now });
  const silent = started.filter((id) => silence(id) > limitMs);
  if (silent.length === started.length && started.length > 1) return undefined;
  return silent.sort((a, b) => silence(b) - silence(a))[0];
}

/** Delivers `alarm` of this name to the actor itself after `delayMs`. */
export function alarm(name: string, delayMs: number): Effect {
  return { kind: "timer", name, delayMs, message: { type: "alarm", name } };
}
