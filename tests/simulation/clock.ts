/** Virtual time: timers run one by one, in order of time, then of creation. It knows no actor. */
import type { Clock } from "../../actors/runtime/clock.ts";

interface Timer {
  readonly at: number;
  readonly action: () => void;
  cancelled: boolean;
}

/** Time that jumps from timer to timer. */
export class VirtualClock implements Clock {
  #now = 0;
  /** By time, then creation; the next one last. */
  readonly #timers: Timer[] = [];

  now(): number {
    return this.#now;
  }

  date(): Date {
    return new Date(Date.UTC(2026, 0, 1) + this.#now);
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), action, cancelled: false };
    let low = 0, high = this.#timers.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#timers[middle].at > timer.at) low = middle + 1;
      else high = middle;
    }
    this.#timers.splice(low, 0, timer);
    return () => {
      timer.cancelled = true;
    };
  }

  /** Runs the next timer; false when there is none. */
  runNext(): boolean {
    const timer = this.#timers.pop();
    if (timer === undefined) return false;
    this.#now = timer.at;
    if (!timer.cancelled) timer.action();
    return true;
  }
}
