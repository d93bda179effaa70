/**
 * How a launcher sees that its controller lives: by the run's status, which its main thread writes, and by a pulse in a file
 * of its own, from a thread that does nothing else. What to do about silence is left to whoever watches.
 */

/** Time between two beats. */
const pulseMs = 250;

/** The thread's program; no module, so that it starts in no time. */
const program = `
onmessage = ({ data: { file, everyMs } }) => {
  let count = 0;
  // A disk that is full or gone must not end the pulse for good.
  const beat = () => { try { Deno.writeTextFileSync(file, String(count++)); } catch {} };
  beat();
  setInterval(beat, everyMs);
};`;

/** Writes a pulse into `file` from a thread of its own; ends with what is returned. */
export function startPulseFile(file: string): () => void {
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(program)}`, { type: "module", name: "pulse" });
  // What goes wrong there ends the pulse, not the run.
  worker.addEventListener("error", (event) => event.preventDefault());
  worker.postMessage({ file, everyMs: pulseMs });
  return () => worker.terminate();
}

/** What is watched, and for how long it may be silent. */
export interface Watched {
  /** What changes with each sign of life; undefined as long as none is to be expected. */
  stamp(): string | undefined;
  readonly silenceMs: number;
  /** Time between two looks. */
  readonly lookEveryMs: number;
}

/** Calls `onSilence` once when no new sign of life has come for too long. What is returned ends the watch. */
export function watchFor({ stamp, silenceMs, lookEveryMs }: Watched, onSilence: () => void): () => void {
  let seen: string | undefined, since = 0, lookedAt = 0;
  const look = () => {
    const found = stamp();
    const now = performance.now();
    // A look that comes late proves nothing: this process stood still as well.
    if (found === undefined || found !== seen || now - lookedAt > 3 * lookEveryMs) since = now;
    seen = found;
    lookedAt = now;
    if (now - since < silenceMs) return;
    clearInterval(timer);
    onSilence();
  };
  const timer = setInterval(look, lookEveryMs);
  return () => clearInterval(timer);
}

/** What changes when a file is written or replaced; undefined when there is none. */
export function stampOf(file: string): string | undefined {
  try {
    const { ino, mtime } = Deno.statSync(file);
    return `${ino} ${mtime?.getTime()}`;
  } catch {
    return undefined;
  }
}
