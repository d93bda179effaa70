/**
 * One run from a settled configuration to its last checkpoint: the cluster with the run's files beside it. The command
 * line and {@linkcode pretrain} both end here. It prints nothing.
 */
import { runCluster, type RunOutcome } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import { journalOf } from "../actors/adopt.ts";
import { readCommits, readNotes, RunFiles, startsOf } from "../actors/run_files.ts";
import { runFolder } from "../actors/run_identity.ts";
import type { TrainConfig } from "../config.ts";
import type { AdapterDescription } from "../device/device.ts";
import { probeAdapters } from "../setup/adapters.ts";
import { renderEmoji } from "../setup/emoji.ts";
import { checkAdapters } from "./preflight.ts";
import type { RunStart } from "./run_folder.ts";
import { lockRun } from "./run_lock.ts";
import { type RecordedKernels, settleKernels } from "./tuning.ts";
import { firstAdapter, timingProcess } from "./tuning_process.ts";

/** The version that `run.json` names. */
export const version = "0.1.0";

/** What a run needs besides its configuration. */
export interface RunSettings {
  readonly start: RunStart;
  /** Machines in all, this one included. @default 1 */
  readonly hosts?: number;
  /** Secret that other hosts show. @default a new random one */
  readonly token?: string;
  readonly singleProcess?: boolean;
  /** Longest wait for the other hosts, after which the run starts with those that came. @default as long as it takes */
  readonly hostsMs?: number;
  /** How long hosts and actors outlive this process and look for one that starts anew in its place. @default not at all */
  readonly rejoinMs?: number;
  /** Go on with the actors of the process before this one that are found alive. @default false */
  readonly adopts?: boolean;
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  /** What `run.json` says the run was started with. */
  readonly arguments: readonly string[];
  readonly signal?: AbortSignal;
  readonly onEvent: (event: RunEvent) => void;
  /** Told how the run's kernels are chosen. @default nobody */
  readonly log?: (line: string) => void;
  readonly onListening?: (join: { url: string; token: string }) => void;
  /** Where a test sets breakpoints of the actors' processes (`actors/runtime/breakpoints.ts`). */
  readonly breakpoints?: string;
}

/**
 * Runs the cluster and writes the run's files.
 *
 * @throws {ConfigError} when no adapter can hold the network.
 * @throws {WireError} when the controller's port is in use.
 * @throws {ConfigError} when another process carries on this very run.
 */
export async function runToTheEnd(settings: RunSettings): Promise<RunOutcome> {
  const { start: { config, resumed }, onEvent, signal } = settings;
  const { adapters } = await probeAdapters(settings.gpuEnvironment);
  checkAdapters(config, adapters);
  const kernels = await settleRun(settings, adapters);
  using _lock = lockRun(runFolder(config));
  const attempt = startsOf(runFolder(config));
  const files = new RunFiles(runFolder(config), describeRun(config, { argv: settings.arguments, kernels }));
  try {
    return await runCluster({
      config,
      adapters: adapters.map(({ provider, name, kind }) => `${name} (${kind}) through ${provider}`),
      hosts: settings.hosts,
      token: settings.token,
      singleProcess: settings.singleProcess,
      gpuEnvironment: settings.gpuEnvironment,
      resume: resumed ? {} : undefined,
      attempt,
      hostsMs: settings.hostsMs,
      rejoinMs: settings.rejoinMs,
      adopt: settings.adopts
        ? journalOf(readNotes(runFolder(config)).map(({ event }) => event), readCommits(runFolder(config)).at(-1))
        : undefined,
      choices: kernels?.choices,
      signal,
      onListening: settings.onListening,
      breakpoints: settings.breakpoints,
      onEvent(event: RunEvent) {
        files.record(event);
        onEvent(event);
      },
    });
  } finally {
    files.close();
  }
}

/** The kernels of all trainers: those of the first one's adapter, which is on this machine. */
async function settleRun(
  { start: { config, resumed, kernels: recorded }, gpuEnvironment, signal, log = () => {} }: RunSettings,
  adapters: readonly AdapterDescription[],
): Promise<RecordedKernels | undefined> {
  const first = await firstAdapter(config.cluster, { adapters, gpuEnvironment });
  if (first === undefined) return recorded;
  const { adapter, environment } = first;
  const time = timingProcess({ config, adapter, environment, signal });
  // A run of a version that recorded nothing ran by defaults.
  const mode = resumed ? "off" : config.cluster.tune;
  return (await settleKernels({ config, adapter, recorded, mode, time, log })).recorded;
}

function describeRun(
  config: TrainConfig,
  { argv, kernels }: { argv: readonly string[]; kernels: RecordedKernels | undefined },
) {
  return {
    run: config.run.name,
    createdAt: new Date().toISOString(),
    config,
    versions: { deno: Deno.version.deno, v8: Deno.version.v8, typescript: Deno.version.typescript, seer: version },
    arguments: argv,
    seed: config.seed,
    adapters: {},
    ...(kernels === undefined ? {} : { kernels }),
  };
}

/** The quickstart's images, rendered once into the user's cache: their folder. */
export async function quickstartImages(log: (line: string) => void): Promise<string> {
  const folders = await renderEmoji({
    progress(done, total) {
      if (done % 500 === 0 || done === total) log(`rendering the quickstart's images: ${done} of ${total}`);
    },
  });
  return folders.path;
}

/** Interruption by Ctrl-C: the first ends the run after its step, the second ends the process. */
export interface Interruption {
  readonly signal: AbortSignal;
  /** Gives the signals back. */
  [Symbol.dispose](): void;
}

/** Listens for SIGINT and SIGTERM. */
export function interruption(
  log: (line: string) => void,
  notice = "stopping after this step; press Ctrl-C again to stop without a checkpoint",
): Interruption {
  const controller = new AbortController();
  const onSignal = () => {
    if (controller.signal.aborted) Deno.exit(130);
    log(notice);
    controller.abort();
  };
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]() {
      for (const signal of signals) Deno.removeSignalListener(signal, onSignal);
    },
  };
}
