/** The command `pretrain`: a run from its configuration to its last checkpoint, with progress for a person. */
import { runCluster, type RunOutcome } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import { RunFiles } from "../actors/run_files.ts";
import { runFolder } from "../actors/run_identity.ts";
import type { TrainConfig } from "../config.ts";
import { probeAdapters } from "../setup/adapters.ts";
import { renderEmoji } from "../setup/emoji.ts";
import { ensureVulkan } from "../setup/vulkan.ts";
import type { CommandLine } from "./arguments.ts";
import { runWithGpu, seesGpu } from "./gpu_process.ts";
import { Progress } from "./progress.ts";
import { type RunStart, startOf } from "./run_folder.ts";

/** What a run needs besides its configuration. */
export interface RunSettings {
  readonly start: RunStart;
  readonly hosts?: number;
  readonly token?: string;
  readonly singleProcess?: boolean;
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  readonly arguments: readonly string[];
}

/** Runs `pretrain`; resolves to the exit code. */
export async function pretrainCommand(line: CommandLine, argv: readonly string[]): Promise<number> {
  const gpuEnvironment = seesGpu() ? {} : await ensureVulkan({ log: (text) => console.log(text) });
  if (line.options.singleProcess && !seesGpu()) return await runWithGpu(argv, gpuEnvironment);
  const start = await startOf(line, { now: new Date(), defaultFolder: quickstartImages });
  const outcome = await runToTheEnd({
    start,
    hosts: line.options.hosts,
    token: line.options.token ?? Deno.env.get("SEER_TOKEN"),
    singleProcess: line.options.singleProcess,
    gpuEnvironment,
    arguments: argv,
  });
  printOutcome(outcome);
  return exitCodeOf(outcome);
}

/** The quickstart's images, rendered once into the user's cache. */
export async function quickstartImages(): Promise<string> {
  const folders = await renderEmoji({
    progress(done, total) {
      if (done % 500 === 0 || done === total) console.log(`rendering the quickstart's images: ${done} of ${total}`);
    },
  });
  return folders.path;
}

/** Runs the cluster with progress, files and Ctrl-C wired up. */
export async function runToTheEnd(settings: RunSettings): Promise<RunOutcome> {
  const { config, resumed } = settings.start;
  const adapters = await adapterLines(settings);
  const files = new RunFiles(runFolder(config), describeRun(config, settings.arguments));
  const progress = new Progress({
    terminal: Deno.stdout.isTerminal(),
    write: (text) => Deno.stdout.writeSync(new TextEncoder().encode(text)),
    now: () => performance.now(),
  });
  const interrupt = new AbortController();
  const onSignal = () => {
    if (interrupt.signal.aborted) Deno.exit(130);
    console.log("\nstopping after this step; press Ctrl-C again to stop without a checkpoint");
    interrupt.abort();
  };
  for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, onSignal);
  console.log(`run: ${runFolder(config)}`);
  try {
    return await runCluster({
      config,
      adapters,
      hosts: settings.hosts,
      token: settings.token,
      singleProcess: settings.singleProcess,
      gpuEnvironment: settings.gpuEnvironment,
      resume: resumed ? {} : undefined,
      signal: interrupt.signal,
      onListening: ({ url, token }) => {
        if ((settings.hosts ?? 1) > 1) printJoin(url, token, settings.token);
      },
      onEvent(event: RunEvent) {
        files.record(event);
        progress.show(event);
      },
    });
  } finally {
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.removeSignalListener(signal, onSignal);
    files.close();
  }
}

async function adapterLines({ gpuEnvironment }: RunSettings): Promise<string[]> {
  const { adapters } = await probeAdapters(gpuEnvironment);
  return adapters.map(({ provider, name, kind }) => `${name} (${kind}) through ${provider}`);
}

function printJoin(url: string, token: string, given: string | undefined): void {
  console.log(`waiting for hosts; on each of them:\n  deno task seer host --join ${url} --token ${given ?? token}`);
}

function describeRun(config: TrainConfig, argv: readonly string[]) {
  return {
    run: config.run.name,
    createdAt: new Date().toISOString(),
    config,
    versions: { deno: Deno.version.deno, v8: Deno.version.v8, typescript: Deno.version.typescript, seer: "0.1.0" },
    arguments: argv,
    seed: config.seed,
    adapters: {},
  };
}

/** Says how a run ended and how to go on with it. */
export function printOutcome(outcome: RunOutcome): void {
  const resume = `deno task pretrain --resume ${outcome.run}`;
  if (outcome.outcome === "failed") {
    const { actor, host, error, lines } = outcome.failure;
    console.error(`\nrun stopped: ${actor} on ${host}: ${error}`);
    if (lines.length > 0) console.error(`its last lines:\n${lines.map((line) => `  ${line}`).join("\n")}`);
    console.error(`log: ${outcome.run}/logs/${actor}.log\nresume from the last checkpoint: ${resume}`);
    return;
  }
  console.log(`\nrun: ${outcome.run}`);
  if (outcome.digest !== "") {
    console.log(`weights: ${outcome.checkpoint}/model.safetensors\nSHA-256: ${outcome.digest}`);
  }
  if (outcome.outcome === "interrupted") console.log(`interrupted before step ${outcome.step}; go on: ${resume}`);
}

/** 0 for a finished run, 130 for an interrupted one, 1 for a failed one. */
export function exitCodeOf(outcome: RunOutcome): number {
  return outcome.outcome === "finished" ? 0 : outcome.outcome === "interrupted" ? 130 : 1;
}
