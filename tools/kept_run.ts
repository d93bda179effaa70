/**
 * A run as `deno task pretrain` starts it, for faults that hit its controller: this process is the launcher
 * (`cli/keeper.ts`), each life of the controller a process of its own, whose events are read from its stdout.
 */
import { deadline } from "@std/async/deadline";
import type { RunOutcome } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import { readCommits, readMetrics } from "../actors/run_files.ts";
import { runFolder } from "../actors/run_identity.ts";
import { controllerProcess, keep } from "../cli/keeper.ts";
import type { TrainConfig } from "../config.ts";
import type { Stoppable } from "./breakpoints.ts";
import { type Told, toldMark } from "./kept_controller.ts";

const standsMs = 60_000;

/** What a kept run needs. */
export interface KeptRunOptions {
  readonly config: TrainConfig;
  /** Where the actors ask for breakpoints. */
  readonly breakpoints: string;
  readonly onEvent: (event: RunEvent) => void;
}

/** One run and whoever is its controller. */
export class KeptRun {
  /** Resolves when its launcher has ended. */
  readonly done: Promise<RunOutcome>;
  readonly #run: string;
  #child: Deno.ChildProcess | undefined;
  /** Resolves when all that the newest controller has told is taken. */
  #heard: Promise<unknown> = Promise.resolve();
  #stands = Promise.withResolvers<void>();
  #outcome: RunOutcome | undefined;
  /** What launcher and controllers have printed. */
  readonly #printed: string[] = [];

  constructor(private readonly options: KeptRunOptions) {
    this.#run = runFolder(options.config);
    this.done = this.#keep();
  }

  /** Asks it to end before the next step, with a checkpoint. */
  stop(): void {
    try {
      this.#child?.kill("SIGTERM");
    } catch {
      // It has ended.
    }
  }

  /** What is amiss in the files of the run, which has ended before `step`: each step counts once and has its numbers. */
  gaps(step: number): string[] {
    const due = Array.from({ length: step }, (_, each) => each);
    const commits = readCommits(this.#run).map((record) => record.step);
    const metrics = readMetrics(this.#run).map((record) => record.step);
    return [
      ...commits.join() === due.join() ? [] : [`commits.jsonl has the steps ${commits}, not each of ${step} once`],
      ...metrics.join() === due.join() ? [] : [`metrics.jsonl has the steps ${metrics}, not each of ${step} once`],
    ];
  }

  /** The newest process of the controller; once it has ended, all that it told is taken. */
  get controller(): Stoppable {
    const child = this.#child;
    if (child === undefined) throw new Error("there is no controller yet");
    const ended = Promise.all([child.status, this.#heard]).then(() => {});
    return { id: "controller", pid: child.pid, ended, cut() {}, go() {} };
  }

  /** Resolves when a controller stands still with such an event written down of which nobody was told. */
  async standsAt(kind: RunEvent["kind"]): Promise<Stoppable> {
    this.#stands = Promise.withResolvers();
    Deno.writeTextFileSync(this.#standFile, kind);
    await deadline(this.#stands.promise, standsMs);
    return this.controller;
  }

  get #standFile(): string {
    return `${this.#run}.stand`;
  }

  async #keep(): Promise<RunOutcome> {
    const { config, breakpoints } = this.options;
    const file = `${this.#run}.config.ts`;
    await Deno.writeTextFile(file, `export default ${JSON.stringify(config)};\n`);
    const code = await keep({
      start: (args) => {
        const entry = "tools/kept_controller.ts";
        const child = controllerProcess([breakpoints, this.#standFile, ...args], { entry, output: "piped" });
        this.#child = child;
        this.#heard = Promise.all([this.#read(child.stdout), this.#read(child.stderr), child.status]);
        return child;
      },
      argv: ["pretrain", "--config", file, "--run.name", config.run.name],
      token: crypto.getRandomValues(new Uint8Array(32)).toHex(),
      hosts: 1,
      log: (line) => this.#printed.push(line),
    });
    await this.#heard;
    const error = `exit code ${code}: ${this.#printed.slice(-20).join("\n")}`;
    const failure = { actor: "controller", host: "host-0", error, lines: [] };
    return this.#outcome ?? { outcome: "failed", failure, run: this.#run };
  }

  async #read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const text of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const at = line.indexOf(toldMark);
        if (at < 0) this.#printed.push(line);
        else this.#take(JSON.parse(line.slice(at + toldMark.length)));
      }
    }
  }

  #take(told: Told): void {
    if ("stands" in told) return this.#stands.resolve();
    const { event } = told;
    if (event.kind === "ended") {
      const { outcome, step, digest, folder } = event;
      this.#outcome = { outcome, step, digest, checkpoint: folder, run: this.#run };
    }
    if (event.kind === "failed") this.#outcome = { outcome: "failed", failure: event.failure, run: this.#run };
    this.options.onEvent(event);
  }
}
