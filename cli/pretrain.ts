/** The command `pretrain`: a run from its configuration to its last checkpoint, with progress for a person. */
import type { RunOutcome } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import { runFolder } from "../actors/run_identity.ts";
import { gpuEnvironment, runWithGpu, seesGpu } from "../api/gpu_process.ts";
import { checkRun } from "../api/preflight.ts";
import { givenSecret, joinText } from "../api/join.ts";
import { terminalProgress } from "../api/pretrain.ts";
import { interruption, quickstartImages, runToTheEnd } from "../api/run.ts";
import { newRun, resumedRun, type RunStart } from "../api/run_folder.ts";
import { loadConfig } from "../config.ts";
import type { CommandLine } from "./arguments.ts";
import { beatFor, controllerProcess, keep, type Kept, noteFor, readKept } from "./keeper.ts";

/** Time for the hosts of a controller that is started anew to come back, before the run goes on without them. */
const rejoinMs = 30_000;

const print = (line: string) => console.log(line);

/** What a test adds to a run. */
export interface Staged {
  /** Where it sets breakpoints of the actors' processes (`actors/runtime/breakpoints.ts`). */
  readonly breakpoints: string;
  /** Told of each event once it is in the run's files. */
  onEvent(event: RunEvent): void;
}

/** Runs `pretrain`; resolves to the exit code. */
export async function pretrainCommand(
  line: CommandLine,
  argv: readonly string[],
  { staged }: { staged?: Staged } = {},
): Promise<number> {
  const { options } = line;
  const kept = await readKept();
  if (kept !== undefined) beatFor(kept);
  const token = kept?.token ?? givenSecret(options);
  if (kept === undefined && options.keeper && !options.singleProcess) {
    return await keep({
      start: controllerProcess,
      argv,
      token: token ?? crypto.getRandomValues(new Uint8Array(32)).toHex(),
      hosts: options.hosts,
      log: (text) => console.error(text),
    });
  }
  const start = keptStart(await startOf(line), kept);
  const { steps, step } = await checkRun(start);
  if (start.resumed && step >= steps) {
    print(
      `run: ${runFolder(start.config)}\nit has finished: all ${steps} steps are done, there is nothing to go on with`,
    );
    print(`evaluate it: deno task evaluate ${runFolder(start.config)}`);
    return 0;
  }
  const environment = await gpuEnvironment(print);
  if (options.singleProcess && !seesGpu()) return await runWithGpu(["pretrain", ...argv.slice(1)], environment);
  const outcome = await runCommandLine({ line, start, argv, environment, token, kept, staged });
  printOutcome(outcome);
  return exitCodeOf(outcome);
}

/** The run that a command line asks for. */
export async function startOf(line: CommandLine, preset?: string): Promise<RunStart> {
  const { options, overrides } = line;
  if (options.resume !== undefined) return await resumedRun(options.resume, Object.fromEntries(overrides));
  const name = options.preset ?? preset;
  const loaded = await loadConfig({ preset: name, file: options.config, overrides });
  return await newRun(loaded, {
    named: overrides.some(([key]) => key === "name" || key === "run.name"),
    fallbackName: name ?? "run",
    now: new Date(),
    defaultFolder: () => quickstartImages(print),
  });
}

/** A controller that died before its first checkpoint begins its run anew. */
function keptStart(start: RunStart, kept: Kept | undefined): RunStart {
  if (kept === undefined || !start.resumed || kept.starts === 0) return start;
  return hasCheckpoint(runFolder(start.config)) ? start : { ...start, resumed: false };
}

/** Runs the cluster with progress and Ctrl-C wired up. */
export async function runCommandLine(
  { line: { options }, start, argv, environment, token, kept, staged }: {
    line: CommandLine;
    start: RunStart;
    argv: readonly string[];
    environment: Readonly<Record<string, string>>;
    /** Secret that other hosts show. */
    token: string | undefined;
    kept?: Kept;
    staged?: Staged;
  },
): Promise<RunOutcome> {
  const { hosts } = options;
  const progress = terminalProgress();
  using ctrlC = interruption((text) => print(`\n${text}`));
  print(`run: ${runFolder(start.config)}`);
  return await runToTheEnd({
    start,
    hosts,
    token,
    rejoinMs: kept === undefined ? undefined : rejoinMs,
    adopts: kept !== undefined && kept.starts > 0,
    hostsMs: kept !== undefined && kept.starts > 0 ? rejoinMs : undefined,
    singleProcess: options.singleProcess,
    gpuEnvironment: environment,
    arguments: argv,
    signal: ctrlC.signal,
    log: print,
    onListening: ({ url, token }) => {
      if (kept !== undefined) noteFor(kept, { run: runFolder(start.config), port: Number(new URL(url).port) });
      if (hosts > 1) print(joinText(url, { token, run: runFolder(start.config) }));
    },
    breakpoints: staged?.breakpoints,
    onEvent(event) {
      staged?.onEvent(event);
      progress.show(event);
    },
  });
}

/** Says how a run ended and how to go on with it. */
export function printOutcome(outcome: RunOutcome): void {
  const resume = `deno task pretrain --resume ${outcome.run}`;
  if (outcome.outcome === "failed") {
    const { actor, host, error, lines } = outcome.failure;
    // The rest of a stack is in the log.
    console.error(`\nerror: run stopped: ${actor} on ${host}: ${error.split("\n")[0]}`);
    if (lines.length > 0) console.error(`its last lines:\n${lines.map((line) => `  ${line}`).join("\n")}`);
    console.error(`log: ${outcome.run}/logs/${actor}.log`);
    if (hasCheckpoint(outcome.run)) console.error(`resume from the last checkpoint: ${resume}`);
    else console.error("there is no checkpoint yet: start it again");
    return;
  }
  print(`\nrun: ${outcome.run}`);
  if (outcome.digest !== "") {
    print(`weights: ${outcome.checkpoint}/model.safetensors\nSHA-256: ${outcome.digest}`);
  }
  if (outcome.outcome !== "interrupted") return;
  if (hasCheckpoint(outcome.run)) print(`interrupted before step ${outcome.step}; go on: ${resume}`);
  else print("interrupted before the first step; nothing was written");
}

function hasCheckpoint(run: string): boolean {
  try {
    return Deno.statSync(`${run}/checkpoints/latest`).isFile;
  } catch {
    return false;
  }
}

/** 0 for a finished run, 130 for an interrupted one, 1 for a failed one. */
export function exitCodeOf(outcome: RunOutcome): number {
  return outcome.outcome === "finished" ? 0 : outcome.outcome === "interrupted" ? 130 : 1;
}
