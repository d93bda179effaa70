/**
 * Looks for a controller that was lost, at the address where it was: one that starts anew listens there again. Meanwhile
 * what would be told to it is dropped. It knows no role.
 */
import { errorText, type Link } from "../../wire/link.ts";
import type { ActorId } from "./behavior.ts";
import { type Clock, realClock } from "./clock.ts";
import type { LinkNetwork } from "./network.ts";

/** Who looks for whom, and how. */
export interface RejoinOptions {
  readonly network: LinkNetwork;
  readonly controller: ActorId;
  /** Opens a new link to it. */
  connect(): Promise<Link>;
  /** How long to look; after that its loss is reported. */
  readonly rejoinMs: number;
  /** It is there again, or another in its place: the first words to it. */
  onBack(): void;
  /** Told when it is lost. */
  onLost?(reason: string): void;
  /** Told when it was looked for in vain. */
  onGone?(): void;
  readonly clock?: Clock;
}

const everyMs = 250;

/** Looks for the controller from its next loss on. */
export function lookForController(options: RejoinOptions): void {
  const { network, controller, rejoinMs, clock = realClock } = options;
  let until = 0;
  const look = (lost: string): void => {
    options.connect().then((link) => {
      network.adopt(link);
      options.onBack();
    }, (error) => {
      // Who is refused is a stranger to it now: its start is void.
      const refused = errorText(error).includes("was refused");
      if (!refused && clock.now() < until) return clock.after(everyMs, () => look(lost));
      network.giveUp(controller, lost);
      options.onGone?.();
    });
  };
  network.onLost = (peer, reason) => {
    if (peer !== controller) return false;
    until = clock.now() + rejoinMs;
    options.onLost?.(reason);
    clock.after(0, () => look(reason));
    return true;
  };
}
