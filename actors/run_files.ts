/**
 * The files of a run's folder besides its checkpoints: `run.json` (what was run), `metrics.jsonl` (one line a step) and
 * `logs/<actor>.log`. It writes what events say and decides nothing.
 */
import type { RunEvent, StepRecord } from "./events.ts";

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

/** Writes the run's files; every call is synchronous and small, in order of events. */
export class RunFiles {
  readonly folder: string;
  #description: RunDescription;
  #logs = new Map<string, Deno.FsFile>();
  #metrics: Deno.FsFile;

  /**
   * Opens (or continues) the files in `folder`. On resume, metric lines of steps that will be taken again are dropped, so
   * that `metrics.jsonl` holds every step once.
   */
  constructor(folder: string, description: RunDescription) {
    this.folder = folder;
    this.#description = description;
    Deno.mkdirSync(`${folder}/logs`, { recursive: true });
    this.#metrics = Deno.openSync(`${folder}/metrics.jsonl`, { create: true, append: true });
    this.#writeDescription();
  }

  /** Takes one event. */
  record(event: RunEvent): void {
    if (event.kind === "step") this.#append(this.#metrics, JSON.stringify(event.record) + "\n");
    if (event.kind === "log") this.#append(this.#log(event.actor), event.lines.map((line) => line + "\n").join(""));
    if (event.kind === "resumed") this.#keepStepsBefore(event.step);
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

  #writeDescription(): void {
    Deno.writeTextFileSync(`${this.folder}/run.json`, JSON.stringify(this.#description, null, 2) + "\n");
  }

  #keepStepsBefore(step: number): void {
    const kept = readMetrics(this.folder).filter((record) => record.step < step);
    this.#metrics.close();
    Deno.writeTextFileSync(
      `${this.folder}/metrics.jsonl`,
      kept.map((record) => JSON.stringify(record) + "\n").join(""),
    );
    this.#metrics = Deno.openSync(`${this.folder}/metrics.jsonl`, { create: true, append: true });
  }
}

/** The step records of a run; a torn last line, left by a crash, is skipped. */
export function readMetrics(folder: string): StepRecord[] {
  const lines = Deno.readTextFileSync(`${folder}/metrics.jsonl`).split("\n");
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as StepRecord];
    } catch {
      return [];
    }
  });
}
