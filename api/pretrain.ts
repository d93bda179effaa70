/**
 * Pretraining as one call: finds a GPU or a software one, settles folders, starts the cluster, shows progress, writes the
 * run's files. The command `pretrain` takes the same path with its own words.
 */
import type { RunOutcome } from "../actors/cluster.ts";
import type { RunEvent, RunFailure, StepRecord } from "../actors/events.ts";
import { runFolder } from "../actors/run_identity.ts";
import { DirectoryStore } from "../checkpoint/store.ts";
import type { TrainConfig } from "../config.ts";
import { gpuEnvironment } from "./gpu_process.ts";
import { checkRun } from "./preflight.ts";
import { Progress } from "./progress.ts";
import { overridesOf, type Recipe, resolveRecipe } from "./recipe.ts";
import { joinText } from "./join.ts";
import { interruption, quickstartImages, runToTheEnd } from "./run.ts";
import { newRun, resumedRun, type RunStart } from "./run_folder.ts";

/** Options of {@linkcode pretrain}. */
export interface PretrainOptions {
  /** Called after each step. */
  readonly onStep?: (record: StepRecord, steps: number) => void;
  /** Called for everything that the run reports, steps included. */
  readonly onEvent?: (event: RunEvent) => void;
  /** Machines in all, this one included; the run starts when they have joined. @default 1 */
  readonly hosts?: number;
  /** Secret that other hosts show. @default a new random one */
  readonly token?: string;
  /** Told where other hosts can join; without it the address is printed when `hosts` is more than 1. */
  readonly onListening?: (join: { url: string; token: string }) => void;
  /** Ends the run after the step under way, with a checkpoint. Without it, Ctrl-C does. */
  readonly signal?: AbortSignal;
  /** Folder of an earlier run to go on with; of the recipe only `cluster`, `checkpoint` and `probe` may differ then. */
  readonly resume?: string;
  /** All actors in this process; it must have been started with the driver's variables. @default false */
  readonly singleProcess?: boolean;
  /** Print nothing. @default false */
  readonly quiet?: boolean;
}

/** A run that has ended in good order. */
export interface RunResult {
  readonly outcome: "finished" | "interrupted";
  /** Folder of the run; {@linkcode openTrunk} and {@linkcode evaluateRun} take it. */
  readonly run: string;
  /** Steps taken since the run began, resumed parts included. */
  readonly step: number;
  /** Folder of the last checkpoint; empty when none was written. */
  readonly checkpoint: string;
  /** SHA-256 of the last `model.safetensors`; the same for any number of trainers and hosts. */
  readonly digest: string;
  /** The steps of this start. */
  readonly steps: readonly StepRecord[];
}

/** An actor failed and the run stopped; the message names it and says how to go on. */
export class RunFailedError extends Error {
  override readonly name = "RunFailedError";
  readonly failure: RunFailure;
  /** Folder of the run. */
  readonly run: string;

  constructor(failure: RunFailure, run: string) {
    super(`Run ${run} stopped: ${failure.actor} on ${failure.host}: ${failure.error}`);
    this.failure = failure;
    this.run = run;
  }
}

/**
 * Pretrains a network.
 *
 * @param recipe the configuration, over a preset if it names one; without `data.folder` the quickstart's images are used.
 * @throws {ConfigError} for a configuration that cannot be used, or a port in use.
 * @throws {CheckpointError} when the run to resume has no intact checkpoint.
 * @throws {RunFailedError} when an actor fails.
 * @throws {Error} when the images are missing or unreadable, or there is no GPU and none can be had.
 */
export async function pretrain(recipe: Recipe, options: PretrainOptions = {}): Promise<RunResult> {
  const log = options.quiet ? () => {} : (line: string) => console.log(line);
  const start = await startOf(recipe, { resume: options.resume, log });
  const { steps, step } = await checkRun(start);
  if (start.resumed && step >= steps) return await finishedRun(start.config, step);
  const environment = await gpuEnvironment(log);
  if (options.singleProcess) applyHere(environment);
  const records: StepRecord[] = [];
  const progress = options.quiet ? undefined : terminalProgress();
  using ctrlC = options.signal === undefined ? interruption(log) : undefined;
  log(`run: ${runFolder(start.config)}`);
  const outcome = await runToTheEnd({
    start,
    hosts: options.hosts,
    token: options.token,
    singleProcess: options.singleProcess,
    gpuEnvironment: environment,
    arguments: ["pretrain()"],
    signal: options.signal ?? ctrlC?.signal,
    log,
    onListening: options.onListening ?? (({ url, token }) => {
      if ((options.hosts ?? 1) > 1) log(joinText(url, { token, run: runFolder(start.config) }));
    }),
    onEvent(event) {
      progress?.show(event);
      // Steps after the checkpoint that a restart goes back to are taken again.
      if (event.kind === "resumed") records.splice(0, Infinity, ...records.filter(({ step }) => step < event.step));
      if (event.kind === "step") {
        records.push(event.record);
        options.onStep?.(event.record, event.steps);
      }
      options.onEvent?.(event);
    },
  });
  return resultOf(outcome, records);
}

/** Progress on standard output. */
export function terminalProgress(): Progress {
  return new Progress({
    terminal: Deno.stdout.isTerminal(),
    write: (text) => Deno.stdout.writeSync(new TextEncoder().encode(text)),
    now: () => performance.now(),
  });
}

async function startOf(
  recipe: Recipe,
  { resume, log }: { resume?: string; log: (line: string) => void },
): Promise<RunStart> {
  const loaded = resume === undefined ? await resolveRecipe(recipe) : undefined;
  if (loaded !== undefined) {
    return await newRun(loaded, {
      named: recipe.run?.name !== undefined,
      fallbackName: recipe.preset ?? "run",
      now: new Date(),
      defaultFolder: () => quickstartImages(log),
    });
  }
  const { cluster, checkpoint, probe } = recipe;
  return await resumedRun(resume ?? "", overridesOf({ cluster, checkpoint, probe }));
}

async function finishedRun(config: TrainConfig, step: number): Promise<RunResult> {
  const { folder, manifest } = await new DirectoryStore(runFolder(config)).load("latest");
  const { sha256 } = manifest.files["model.safetensors"];
  return { outcome: "finished", run: runFolder(config), step, checkpoint: folder, digest: sha256, steps: [] };
}

function resultOf(outcome: RunOutcome, steps: readonly StepRecord[]): RunResult {
  if (outcome.outcome === "failed") throw new RunFailedError(outcome.failure, outcome.run);
  return { ...outcome, steps };
}

/**
 * Makes the driver visible to this very process, where that is still possible.
 *
 * @throws {Error} when the loader's search path would have to be another one, which it reads at the start only.
 */
function applyHere(environment: Readonly<Record<string, string>>): void {
  const path = environment.LD_LIBRARY_PATH;
  if (path !== undefined && path !== Deno.env.get("LD_LIBRARY_PATH")) {
    const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`).join(" ");
    throw new Error(
      `Cannot compute in this process: the driver's variables must be set before it starts; run \`env ${variables} deno run …\`, or leave singleProcess out`,
    );
  }
  for (const [name, value] of Object.entries(environment)) Deno.env.set(name, value);
}
