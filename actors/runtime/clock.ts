/** Time as the runtime sees it, real or moved by hand. It knows no date except where one is asked for by name. */

/** A source of time and timers. */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary start. */
  now(): number;
  /** The calendar's time, for logs and manifests only; it may jump. */
  date(): Date;
  /** Runs `action` once after `delayMs`; the returned function cancels it. */
  after(delayMs: number, action: () => void): () => void;
}

/** The machine's time. */
export const realClock: Clock = {
  now: () => performance.now(),
  date: () => new Date(),
  after(delayMs, action) {
    const timer = setTimeout(action, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Time that stands still until {@linkcode ManualClock.advance}. */
export class ManualClock implements Clock {
  #now = 0;
  #order = 0;
  #timers: { at: number; order: number; action: () => void }[] = [];

  now(): number {
    return this.#now;
  }

  date(): Date {
    return new Date(Date.UTC(2026, 0, 1) + this.#now);
  }

  after(delayMs: number, action: () => void): () => void {
    const timer = { at: this.#now + Math.max(0, delayMs), order: this.#order++, action };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Moves time forward, running due timers in order of time, then of creation; those they start run too if due. */
  advance(durationMs: number): void {
    const end = this.#now + durationMs;
    while (true) {
      const due = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#now = due.at;
      due.action();
    }
    this.#now = end;
  }

  /** Timers that wait. */
  get pending(): number {
    return this.#timers.length;
  }
}
