/**
 * A whole run from this process: the controller here, a host beside it (or none but actors in this very process), until
 * the run has ended. What happens is told as events; the outcome is the result.
 */
import type { TrainConfig } from "../config.ts";
import type { Journal } from "./adopt.ts";
import { codeDigest } from "./code_digest.ts";
import { controllerBehavior } from "./controller.ts";
import type { RunEvent, RunFailure } from "./events.ts";
import { hostBehavior } from "./host.ts";
import type { HostOptions } from "./host_process.ts";
import { LocalHost } from "./local_host.ts";
import { singleProcessRoles } from "./roles.ts";
import type { Log } from "./runtime/behavior.ts";
import { MemoryHub } from "./runtime/memory_hub.ts";
import { type ActorHandle, runActor } from "./runtime/loop.ts";
import type { LinkNetwork } from "./runtime/network.ts";
import { openSocketNetwork } from "./runtime/network.ts";
import { spawnInProcess } from "./runtime/spawn.ts";
import { runFolder } from "./run_identity.ts";
import { actorIds } from "./seats.ts";
import { isLoopback } from "../wire/tls.ts";
import { readTls } from "./tls_files.ts";
import { runPolicy } from "./who_may_send.ts";

/** Options of {@linkcode runCluster}. */
export interface ClusterOptions {
  /** With absolute folders. */
  readonly config: TrainConfig;
  /** Hosts in all, this machine's included. @default 1 */
  readonly hosts?: number;
  /** Continue from the newest valid checkpoint, or from that of a step. */
  readonly resume?: { readonly step?: number };
  /** Secret that every actor shows. @default a new random one */
  readonly token?: string;
  /** All actors in this process, over memory links; its environment must have a usable adapter. @default false */
  readonly singleProcess?: boolean;
  /** Environment of processes that use the GPU. */
  readonly gpuEnvironment?: Readonly<Record<string, string>>;
  /** Recorded variants of kernels for every trainer; each takes its defaults when absent. */
  readonly choices?: Readonly<Record<string, string>>;
  /** One line per adapter of this machine. */
  readonly adapters?: readonly string[];
  readonly onEvent?: (event: RunEvent) => void;
  /** Starts of the run's actors before this. @default 0 */
  readonly attempt?: number;
  /** How long hosts and actors outlive this process and look for one that starts anew in its place. @default not at all */
  readonly rejoinMs?: number;
  /** What is known of a process before this one, whose actors may live. @default nothing */
  readonly adopt?: Journal;
  /** Longest wait for hosts, after which the run starts with those that came. @default as long as it takes */
  readonly hostsMs?: number;
  /** Told where other hosts can join. */
  readonly onListening?: (join: { url: string; token: string }) => void;
  /** Ends the run at the next step, with a checkpoint. */
  readonly signal?: AbortSignal;
  /** Ends the run before this step, with a checkpoint. */
  readonly stopBeforeStep?: number;
  /** Where a test sets breakpoints of the actors' processes (`runtime/breakpoints.ts`). */
  readonly breakpoints?: string;
}

/** How a run ended. */
export type RunOutcome =
  | {
    readonly outcome: "finished" | "interrupted";
    readonly step: number;
    /** SHA-256 of the final `model.safetensors`; empty when nothing was written. */
    readonly digest: string;
    /** Folder of the last checkpoint. */
    readonly checkpoint: string;
    /** Folder of the run. */
    readonly run: string;
  }
  | { readonly outcome: "failed"; readonly failure: RunFailure; readonly run: string };

const { localHost } = actorIds;
const killGraceMs = 1_000;
const refusalsEveryMs = 5_000;
const silent: Log = () => {};

/** Runs a cluster until its run has ended. Never rejects for a failure of an actor: that is an outcome. */
export async function runCluster(options: ClusterOptions): Promise<RunOutcome> {
  let outcome: RunOutcome | undefined;
  const run = runFolder(options.config);
  const emit = (event: RunEvent) => {
    if (event.kind === "ended") {
      const { outcome: how, step, digest, folder } = event;
      outcome = { outcome: how, step, digest, checkpoint: folder, run };
    }
    if (event.kind === "started" && event.actor === localHost) onLocalHost.resolve(event.pid);
    if (event.kind === "failed") outcome = { outcome: "failed", failure: event.failure, run };
    options.onEvent?.(event);
  };
  const start = options.singleProcess ? startInProcess : startProcesses;
  const onLocalHost = Promise.withResolvers<number>();
  const started = start(options, onLocalHost.promise, (network, replaceLocalHost) => {
    const behavior = controllerBehavior(
      {
        config: options.config,
        hosts: options.hosts ?? 1,
        resume: options.resume,
        choices: options.choices,
        stopBeforeStep: options.stopBeforeStep,
        attempt: options.attempt,
        adopt: options.adopt,
        hostsMs: options.hostsMs,
        code: options.singleProcess ? undefined : codeDigest(),
      },
      { emit, now: () => performance.now(), replaceLocalHost },
    );
    return runActor(behavior, { id: actorIds.controller, network, log: silent });
  });
  const interrupt = () => started.controller.post({ type: "stop", reason: "interrupted" });
  options.signal?.addEventListener("abort", interrupt, { once: true });
  if (options.signal?.aborted) interrupt();
  const end = await started.controller.done;
  options.signal?.removeEventListener("abort", interrupt);
  await started.close();
  const error = end.error?.stack ?? end.reason;
  return outcome ??
    { outcome: "failed", failure: { actor: actorIds.controller, host: localHost, error, lines: [] }, run };
}

interface Started {
  readonly controller: ActorHandle;
  close(): Promise<void>;
}

/** Starts the controller on a network; it may ask for another local host where that is a process. */
type Control = (network: LinkNetwork, replaceLocalHost?: () => void) => ActorHandle;

function startProcesses(options: ClusterOptions, found: Promise<number>, control: Control): Started {
  const { config, gpuEnvironment = {}, adapters = [] } = options;
  const token = options.token ?? randomToken();
  const { listen, port } = config.cluster;
  const tls = readTls(config.cluster.tls);
  const opened = openSocketNetwork({
    id: actorIds.controller,
    token,
    tls,
    policy: runPolicy,
    listen: { hostname: listen, port },
    onRefused: refusals((reason, count) => options.onEvent?.({ kind: "refused", reason: reason.slice(0, 500), count })),
  });
  const controllerUrl = opened.url ?? "";
  const host = new LocalHost(
    () => hostOptions,
    (message) => controller.post(message, localHost),
  );
  const controller = control(opened.network, () => host.replace());
  options.onListening?.({ url: controllerUrl, token });
  const loopback = isLoopback(listen);
  const hostOptions: HostOptions = {
    controllerUrl,
    token,
    tls,
    listen,
    gpuEnvironment,
    adapters,
    grants: {
      addresses: loopback ? [listen] : [],
      dataFolder: isFolder(config.data.folder) ? config.data.folder : "",
      packagesFolder: packagesFolder(),
      runFolder: runFolder(config),
      codeFolder: codeFolder(),
      dawn: config.cluster.gpu === "dawn" || needsDawn(config, adapters),
    },
    rejoinMs: options.rejoinMs,
    actorsOutlive: true,
    breakpoints: options.breakpoints,
  };
  if (options.adopt === undefined) host.start();
  else host.find(found);
  return {
    controller,
    async close() {
      await opened.close("the run has ended");
      await host.end();
    },
  };
}

/** Passes the first of a flood of refusals on at once, the others as a count with the latest. */
function refusals(tell: (reason: string, count: number) => void): (reason: string) => void {
  let count = 0, lastAt = -Infinity;
  return (reason) => {
    count++;
    if (performance.now() - lastAt < refusalsEveryMs) return;
    lastAt = performance.now();
    tell(reason, count);
    count = 0;
  };
}

function startInProcess(options: ClusterOptions, _found: Promise<number>, control: Control): Started {
  const hub = new MemoryHub(runPolicy);
  const controller = control(hub.network(actorIds.controller));
  const host = spawnInProcess({
    hub,
    bootstrap: {
      id: localHost,
      role: "host",
      controller: actorIds.controller,
      heartbeatMs: 1_000,
      options: {},
    },
    role: {
      listens: false,
      create: () =>
        hostBehavior({
          adapters: options.adapters ?? [],
          spawn: ({ id, role, onLogLine }) =>
            spawnInProcess({
              hub,
              role: singleProcessRoles[role],
              onLogLine,
              bootstrap: { id, role, controller: actorIds.controller, heartbeatMs: 1_000, options: {} },
            }),
        }),
    },
  });
  return {
    controller,
    async close() {
      await host.stop(killGraceMs);
    },
  };
}

/** Whether `auto` may come to mean Dawn: wherever an adapter is a GPU, or is asked for by name. */
function needsDawn({ cluster }: TrainConfig, adapters: readonly string[]): boolean {
  if (cluster.adapters.some(({ provider }) => provider === "dawn")) return true;
  return cluster.gpu === "auto" && adapters.some((line) => line.includes("(gpu)"));
}

/** Whether images lie below `path`; a list names files of any folder. */
function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** Where npm packages lie; undefined where they are not in Deno's cache. */
function packagesFolder(): string | undefined {
  return /^file:\/\/(\/.*\/npm)\/[^/]+\/sharp\//.exec(import.meta.resolve("sharp"))?.[1];
}

function codeFolder(): string {
  return new URL("..", import.meta.url).pathname;
}

function randomToken(): string {
  return crypto.getRandomValues(new Uint8Array(32)).toHex();
}
