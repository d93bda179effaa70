/**
 * The launcher of a run: the controller works in a process of its own, which this one starts anew when it dies of a
 * signal (killed, out of memory, a native crash), from the run's newest checkpoint, at the same address and with the same
 * secret, so that hosts elsewhere come back; one that is frozen, or whose main thread is stuck, is killed first. If this
 * process dies instead, the controller goes on without it. It knows of a run what is in its folder.
 */
import { readMetrics } from "../actors/run_files.ts";
import { backoffMs } from "../actors/recovery.ts";
import { killProcess } from "../actors/runtime/spawn.ts";
import { errorText } from "../wire/link.ts";
import { stampOf, startPulseFile, watchFor } from "./signs_of_life.ts";

/** What a controller's process needs from its launcher: one line of JSON on its stdin. */
export interface Kept {
  /** The run's secret. */
  readonly token: string;
  /** File for what the launcher has to know, as {@linkcode Noted}. */
  readonly notes: string;
  /** Starts of the controller before this one. */
  readonly starts: number;
}

/** What a controller tells its launcher, once it listens. */
export interface Noted {
  readonly run: string;
  readonly port: number;
}

/** How the launcher goes about its work. */
export interface KeeperOptions {
  /** Starts a controller's process with these arguments of `main.ts`; its stdin takes {@linkcode Kept}. */
  start(args: readonly string[]): Deno.ChildProcess;
  /** Arguments of the first start. */
  readonly argv: readonly string[];
  /** Secret for all starts. */
  readonly token: string;
  /** Hosts in all. */
  readonly hosts: number;
  readonly log: (line: string) => void;
  /** Starts without a step never taken before, until it gives up. @default 5 */
  readonly restarts?: number;
  /** Longest time in which a controller at work writes no status before it counts as frozen. @default 20,000 */
  readonly silenceMs?: number;
  /** Longest time without a pulse before its process counts as frozen. @default 1,500 */
  readonly frozenMs?: number;
}

/** Starts a controller in a process group of its own, with what `deno task pretrain` may do. */
export function controllerProcess(
  args: readonly string[],
  { entry = "main.ts", output = "inherit" }: {
    /** Module to run, below this folder's parent. @default "main.ts" */
    entry?: string;
    /** @default "inherit" */
    output?: "inherit" | "piped";
  } = {},
): Deno.ChildProcess {
  const root = new URL("..", import.meta.url);
  const config = root.protocol === "file:" ? [`--config=${decodeURIComponent(root.pathname)}deno.json`] : [];
  const allow = ["read", "write", "env", "net", "run", "ffi", "sys"].map((name) => `--allow-${name}`);
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...config, ...allow, new URL(entry, root).href, ...args],
    env: { [keptVariable]: "1" },
    stdin: "piped",
    stdout: output,
    stderr: output,
    detached: true,
  }).spawn();
}

/** Variable that tells a process that it is a controller with a launcher. */
const keptVariable = "SEER_KEPT";

/** Signals that ask a process to end; all others mean that it was lost. */
const requests: readonly string[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT"];
const stdinTimeoutMs = 10_000;
/** Time between two looks at a run's status, which is written every two seconds, and at the pulse. */
const statusLookMs = 1_000, pulseLookMs = 250;

/** Keeps a controller alive until its run has ended; its exit code. */
export async function keep(options: KeeperOptions): Promise<number> {
  const { argv, token, hosts, log, restarts = 5, silenceMs = 20_000, frozenMs = 1_500 } = options;
  const notes = await Deno.makeTempFile({ prefix: "seer-run-" });
  let [args, taken, furthest, starts] = [argv, 0, -1, 0];
  try {
    while (true) {
      const { code, lost } = await oneLife(() => options.start(args), {
        kept: { token, notes, starts: starts++ },
        limits: { silenceMs, frozenMs },
        log,
      });
      if (lost === undefined) return code;
      const noted = readNoted(notes);
      if (noted === undefined) {
        log(`error: the controller was ${lost}, and its run had not begun: start it again`);
        return code;
      }
      const last = lastStep(noted.run);
      taken = last > furthest ? 1 : taken + 1;
      furthest = Math.max(furthest, last);
      if (taken > restarts) {
        log(`error: the controller was ${lost}; ${restarts} new starts gave no new step`);
        log(`go on from the last checkpoint: deno task pretrain --resume ${noted.run}`);
        return code;
      }
      log(`the controller was ${lost}: starting it anew`);
      await new Promise((resolve) => setTimeout(resolve, backoffMs(taken)));
      args = ["pretrain", "--resume", noted.run, "--hosts", `${hosts}`, "--cluster.port", `${noted.port}`];
    }
  } finally {
    for (const file of [notes, pulseFileOf(notes)]) await Deno.remove(file).catch(() => {});
  }
}

/**
 * One start of the controller, to its end, with how it was lost if nobody wanted that. Ctrl-C and SIGTERM are passed on, for
 * it is in a group of its own.
 */
async function oneLife(
  start: () => Deno.ChildProcess,
  { kept, limits, log }: {
    kept: Kept;
    limits: { silenceMs: number; frozenMs: number };
    log: (line: string) => void;
  },
): Promise<{ code: number; lost?: string }> {
  // That of the controller before is no sign of this one's.
  await Deno.remove(pulseFileOf(kept.notes)).catch(() => {});
  let child: Deno.ChildProcess;
  try {
    child = start();
  } catch (error) {
    return { code: 1, lost: `not started (${errorText(error)})` };
  }
  const endWatch = watchOver(kept, limits, (sign, ms) => {
    log(`the controller has given no ${sign} for ${ms / 1000} s: it is ended`);
    killProcess(child, "SIGKILL");
  });
  const writer = child.stdin.getWriter();
  writer.write(new TextEncoder().encode(`${JSON.stringify(kept)}\n`)).catch(() => {});
  const handlers = (Deno.build.os === "windows" ? ["SIGINT"] as const : ["SIGINT", "SIGTERM"] as const).map(
    (signal) => {
      const pass = () => {
        // One that ends writes no status.
        endWatch();
        killProcess(child, signal);
      };
      Deno.addSignalListener(signal, pass);
      return () => Deno.removeSignalListener(signal, pass);
    },
  );
  try {
    const { code, signal } = await child.status;
    return { code, lost: signal === null || requests.includes(signal) ? undefined : `ended by ${signal}` };
  } finally {
    endWatch();
    for (const remove of handlers) remove();
    await writer.close().catch(() => {});
  }
}

/**
 * Watches over the controller that starts now: its process by its pulse, its main thread by the run's status from when it
 * has told where that lies. Calls `onSilence` once; what is returned ends the watch.
 */
function watchOver(
  { notes }: Kept,
  { silenceMs, frozenMs }: { silenceMs: number; frozenMs: number },
  onSilence: (sign: string, ms: number) => void,
): () => void {
  const before = stampOf(notes);
  const status = () => {
    const noted = stampOf(notes) === before ? undefined : readNoted(notes);
    return noted && (stampOf(`${noted.run}/status.json`) ?? "none");
  };
  const pulse = () => stampOf(pulseFileOf(notes));
  const ends = [
    watchFor({ stamp: status, silenceMs, lookEveryMs: statusLookMs }, () => onSilence("sign of life", silenceMs)),
    watchFor({ stamp: pulse, silenceMs: frozenMs, lookEveryMs: pulseLookMs }, () => onSilence("pulse", frozenMs)),
  ];
  return () => ends.forEach((end) => end());
}

/** Where a controller writes its pulse. */
function pulseFileOf(notes: string): string {
  return `${notes}.pulse`;
}

/** The step taken last; -1 before the first. */
function lastStep(run: string): number {
  try {
    return readMetrics(run).at(-1)?.step ?? -1;
  } catch {
    return -1;
  }
}

function readNoted(notes: string): Noted | undefined {
  try {
    return JSON.parse(Deno.readTextFileSync(notes)) as Noted;
  } catch {
    return undefined;
  }
}

/**
 * What the launcher of this process tells it; undefined without a launcher.
 *
 * @throws {Error} when the launcher says nothing.
 */
export async function readKept(): Promise<Kept | undefined> {
  if (Deno.env.get(keptVariable) !== "1") return undefined;
  // What this process starts has no launcher.
  Deno.env.delete(keptVariable);
  const silence = setTimeout(() => {
    console.error(`error: no word from the launcher within ${stdinTimeoutMs / 1000} s; unset ${keptVariable}`);
    Deno.exit(1);
  }, stdinTimeoutMs);
  const reader = Deno.stdin.readable.getReader();
  const decoder = new TextDecoder();
  let text = "";
  while (!text.includes("\n")) {
    const { value, done } = await reader.read();
    if (done) throw new Error(`Cannot start a controller: its launcher ended without a word; unset ${keptVariable}`);
    text += decoder.decode(value, { stream: true });
  }
  clearTimeout(silence);
  return JSON.parse(text.slice(0, text.indexOf("\n"))) as Kept;
}

/** Writes a pulse for the launcher, for as long as this process lives. */
export function beatFor(kept: Kept): void {
  startPulseFile(pulseFileOf(kept.notes));
}

/** Tells the launcher where its run lies and listens; the file is replaced as a whole. */
export function noteFor(kept: Kept, noted: Noted): void {
  Deno.writeTextFileSync(`${kept.notes}.part`, JSON.stringify(noted));
  Deno.renameSync(`${kept.notes}.part`, kept.notes);
}
