/**
 * The files of a run's folder besides its checkpoints: `run.json` (what was run), `metrics.jsonl` (one line a step, and
 * one a probe), `commits.jsonl` (one line a step that counts, written before any weight moves), `logs/<actor>.log`,
 * `events.jsonl` (everything else that happened, with the time) and `status.json` (where its actors stand, every two
 * seconds). It writes what events say and decides nothing.
 */
import type { CommitRecord, ProbeRecord, RunEvent, RunStatus, StepRecord } from "./events.ts";

/** What `run.json` holds. */
export interface RunDescription {
  readonly run: string;
  readonly createdAt: string;
  readonly config: unknown;
  readonly versions: Readonly<Record<string, string>>;
  readonly arguments: readonly string[];
  readonly seed: number;
  /** One line per actor that computes: adapter, provider, driver. */
  readonly adapters: Readonly<Record<string, string>>;
  /** The variant of each heavy operation and shape, and the adapter that they were chosen for; a resumed run keeps to it. */
  readonly kernels?: { readonly adapter: string; readonly choices: Readonly<Record<string, string>> };
}

/** One line of `events.jsonl`. */
export interface RunNote {
  /** ISO time. */
  readonly at: string;
  readonly event: RunEvent;
}

/** What `status.json` holds: the run's state at `at`, an ISO time. */
export interface WrittenStatus extends RunStatus {
  readonly at: string;
  /** The controller's process. */
  readonly pid: number;
}

/** Writes the run's files; every call is synchronous and small, in order of events. */
export class RunFiles {
  readonly folder: string;
  #description: RunDescription;
  #logs = new Map<string, Deno.FsFile>();
  #metrics: Deno.FsFile;
  #events: Deno.FsFile;
  #commits: Deno.FsFile;

  /**
   * Opens (or continues) the files in `folder`. On resume, metric lines of steps that will be taken again are dropped, so
   * that `metrics.jsonl` holds every step once.
   */
  constructor(folder: string, description: RunDescription) {
    this.folder = folder;
    this.#description = description;
    Deno.mkdirSync(`${folder}/logs`, { recursive: true });
    this.#metrics = openLines(`${folder}/metrics.jsonl`);
    this.#events = openLines(`${folder}/events.jsonl`);
    this.#commits = openLines(`${folder}/commits.jsonl`);
    this.#writeDescription();
  }

  /** Takes one event. */
  record(event: RunEvent): void {
    if (event.kind === "status") return this.#writeStatus(event.status);
    if (event.kind === "commit") return this.#append(this.#commits, JSON.stringify(event.record) + "\n");
    if (event.kind === "step") this.#append(this.#metrics, JSON.stringify(event.record) + "\n");
    if (event.kind === "probe") this.#append(this.#metrics, JSON.stringify(event.record) + "\n");
    if (event.kind === "log") this.#append(this.#log(event.actor), event.lines.map((line) => line + "\n").join(""));
    if (event.kind !== "step" && event.kind !== "log") this.#note(event);
    if (event.kind === "resumed") this.#keepStepsBefore(event.step);
    if (event.kind === "adopted") this.#fillMetrics();
    if (event.kind === "ready" && event.actor.startsWith("trainer")) {
      this.#description = {
        ...this.#description,
        adapters: { ...this.#description.adapters, [event.actor]: event.detail },
      };
      this.#writeDescription();
    }
  }

  /** Closes every file. */
  close(): void {
    this.#metrics.close();
    this.#events.close();
    this.#commits.close();
    for (const file of this.#logs.values()) file.close();
    this.#logs.clear();
  }

  #append(file: Deno.FsFile, text: string): void {
    let bytes = new TextEncoder().encode(text);
    while (bytes.length > 0) bytes = bytes.subarray(file.writeSync(bytes));
  }

  #log(actor: string): Deno.FsFile {
    // An actor's name comes from this run's own placement; the replacement keeps it inside the folder all the same.
    const name = actor.replaceAll(/[^\w.-]/g, "_");
    const open = this.#logs.get(name) ??
      Deno.openSync(`${this.folder}/logs/${name}.log`, { create: true, append: true });
    this.#logs.set(name, open);
    return open;
  }

  #note(event: RunEvent): void {
    const line: RunNote = { at: new Date().toISOString(), event };
    this.#append(this.#events, JSON.stringify(line) + "\n");
    if (event.kind !== "restarting" && (event.kind !== "regrouping" || event.failure === null)) return;
    // An actor's log goes on through its restarts; the line tells its lives apart.
    const mark = `--- ${line.at} restart: lost ${event.failure?.actor}: ${event.failure?.error.split("\n")[0]} ---\n`;
    const anew = (name: string) => event.kind === "restarting" || event.lost.includes(name);
    for (const [name, file] of this.#logs) if (anew(name)) this.#append(file, mark);
  }

  /** Whoever reads it sees the one before or this one, never a half. */
  #writeStatus(status: RunStatus): void {
    const written: WrittenStatus = { at: new Date().toISOString(), pid: Deno.pid, ...status };
    Deno.writeTextFileSync(`${this.folder}/status.json.part`, JSON.stringify(written, null, 2) + "\n");
    Deno.renameSync(`${this.folder}/status.json.part`, `${this.folder}/status.json`);
  }

  #writeDescription(): void {
    Deno.writeTextFileSync(`${this.folder}/run.json`, JSON.stringify(this.#description, null, 2) + "\n");
  }

  /** A controller that died between the two lines of a step has written the first one only, which holds the other. */
  #fillMetrics(): void {
    const last = readCommits(this.folder).at(-1)?.metrics;
    if (last === undefined || readMetrics(this.folder).some(({ step }) => step === last.step)) return;
    this.#append(this.#metrics, JSON.stringify(last) + "\n");
  }

  #keepStepsBefore(step: number): void {
    const lines = readLines<StepRecord | ProbeRecord>(`${this.folder}/metrics.jsonl`);
    // A probe is of the state before its step, which a run that goes on from there has.
    const kept = lines.filter((line) => line.step < step + ("probe" in line ? 1 : 0));
    this.#metrics.close();
    Deno.writeTextFileSync(
      `${this.folder}/metrics.jsonl`,
      kept.map((record) => JSON.stringify(record) + "\n").join(""),
    );
    this.#metrics = openLines(`${this.folder}/metrics.jsonl`);
  }
}

/** Opens a file of lines to add to it; a torn last line, left by a crash, is ended, so that the next is one of its own. */
function openLines(path: string): Deno.FsFile {
  const file = Deno.openSync(path, { create: true, read: true, append: true });
  const size = file.seekSync(0, Deno.SeekMode.End);
  if (size === 0) return file;
  const last = new Uint8Array(1);
  file.seekSync(-1, Deno.SeekMode.End);
  file.readSync(last);
  if (last[0] !== 10) file.writeSync(new Uint8Array([10]));
  return file;
}

/** The step records of a run; a torn last line, left by a crash, is skipped. */
export function readMetrics(folder: string): StepRecord[] {
  return readLines<StepRecord | ProbeRecord>(`${folder}/metrics.jsonl`).flatMap((line) =>
    "probe" in line ? [] : [line]
  );
}

/** What the run's evaluator found, in the order in which it did. */
export function readProbes(folder: string): ProbeRecord[] {
  return readLines<StepRecord | ProbeRecord>(`${folder}/metrics.jsonl`).flatMap((line) =>
    "probe" in line ? [line] : []
  );
}

/** What happened in a run, oldest first; a torn last line is skipped. */
export function readNotes(folder: string): RunNote[] {
  return readLines<RunNote>(`${folder}/events.jsonl`);
}

/** The steps that counted, oldest first; one that was taken again after a loss comes again. A torn last line is skipped. */
export function readCommits(folder: string): CommitRecord[] {
  return readLines<CommitRecord>(`${folder}/commits.jsonl`);
}

/**
 * A number above those of all starts of a run's actors, and of all its membership epochs, so far; 0 for a folder without a
 * run.
 */
export function startsOf(folder: string): number {
  try {
    const notes = readNotes(folder);
    // Runs of earlier versions tell no numbers: all their actors started anew each time.
    const starts = notes.filter(({ event }) => event.kind === "starting").length;
    return notes.reduce((most, { event }) => "attempt" in event ? Math.max(most, event.attempt + 1) : most, starts);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}

function readLines<T>(file: string): T[] {
  return Deno.readTextFileSync(file).split("\n").flatMap((line) => {
    try {
      return [JSON.parse(line) as T];
    } catch {
      return [];
    }
  });
}
