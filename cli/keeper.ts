/**
 * The launcher of a run: the controller works in a process of its own, which this one starts anew when it dies of a
 * signal (killed, out of memory, a native crash), from the run's newest checkpoint, at the same address and with the same
 * secret, so that hosts elsewhere come back; one that is frozen, or whose main thread is stuck, is killed first. If this process dies instead, the controller goes on without it. It knows
 * of a run what is in its folder.
 */
import { readMetrics } from "../actors/run_files.ts";
import { backoffMs } from "../actors/recovery.ts";

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
/** Time between two looks at a run's status, which is written every two seconds. */
const lookEveryMs = 1_000;

/** Keeps a controller alive until its run has ended; its exit code. */
export async function keep(options: KeeperOptions): Promise<number> {
  const { argv, token, hosts, log, restarts = 5, silenceMs = 20_000 } = options;
  const notes = await Deno.makeTempFile({ prefix: "seer-run-" });
  let [args, taken, furthest, starts] = [argv, 0, -1, 0];
  try {
    while (true) {
      const { code, signal } = await oneLife(options.start(args), {
        kept: { token, notes, starts: starts++ },
        silenceMs,
        log,
      });
      if (signal === null || requests.includes(signal)) return code;
      const noted = readNoted(notes);
      if (noted === undefined) {
        log(`error: the controller was ended by ${signal} before its run began: start it again`);
        return code;
      }
      const last = lastStep(noted.run);
      taken = last > furthest ? 1 : taken + 1;
      furthest = Math.max(furthest, last);
      if (taken > restarts) {
        log(`error: the controller was ended by ${signal}; ${restarts} new starts gave no new step`);
        log(`go on from the last checkpoint: deno task pretrain --resume ${noted.run}`);
        return code;
      }
      log(`the controller was ended by ${signal}: starting it anew`);
      await new Promise((resolve) => setTimeout(resolve, backoffMs(taken)));
      args = ["pretrain", "--resume", noted.run, "--hosts", `${hosts}`, "--cluster.port", `${noted.port}`];
    }
  } finally {
    await Deno.remove(notes).catch(() => {});
  }
}

/** One start of the controller, to its end; Ctrl-C and SIGTERM are passed on, for it is in a group of its own. */
async function oneLife(
  child: Deno.ChildProcess,
  { kept, silenceMs, log }: { kept: Kept; silenceMs: number; log: (line: string) => void },
): Promise<Deno.CommandStatus> {
  const endWatch = watchOver(kept.notes, silenceMs, () => {
    log(`the controller has given no sign of life for ${silenceMs / 1000} s: it is ended`);
    kill(child, "SIGKILL");
  });
  const writer = child.stdin.getWriter();
  writer.write(new TextEncoder().encode(`${JSON.stringify(kept)}\n`)).catch(() => {});
  const handlers = (Deno.build.os === "windows" ? ["SIGINT"] as const : ["SIGINT", "SIGTERM"] as const).map(
    (signal) => {
      const pass = () => {
        // One that ends writes no status.
        endWatch();
        kill(child, signal);
      };
      Deno.addSignalListener(signal, pass);
      return () => Deno.removeSignalListener(signal, pass);
    },
  );
  try {
    return await child.status;
  } finally {
    endWatch();
    for (const remove of handlers) remove();
    await writer.close().catch(() => {});
  }
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended meanwhile.
  }
}

/**
 * Calls `onSilence` once when the run of the controller that starts now has had the same status for so long, from when it
 * has told where it lies. What ends the watch.
 */
function watchOver(notes: string, silenceMs: number, onSilence: () => void): () => void {
  const before = stampOf(notes);
  let seen: string | undefined, since = 0, lookedAt = 0;
  const look = () => {
    const noted = stampOf(notes) === before ? undefined : readNoted(notes);
    const stamp = noted === undefined ? undefined : stampOf(`${noted.run}/status.json`) ?? "none";
    const now = performance.now();
    // A look that comes late proves nothing: this process stood still as well.
    if (stamp === undefined || stamp !== seen || now - lookedAt > 3 * lookEveryMs) since = now;
    seen = stamp;
    lookedAt = now;
    if (now - since < silenceMs) return;
    clearInterval(timer);
    onSilence();
  };
  const timer = setInterval(look, lookEveryMs);
  return () => clearInterval(timer);
}

/** What changes when a file is replaced; undefined when there is none. */
function stampOf(file: string): string | undefined {
  try {
    const { ino, mtime } = Deno.statSync(file);
    return `${ino} ${mtime?.getTime()}`;
  } catch {
    return undefined;
  }
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

/** Tells the launcher where its run lies and listens; the file is replaced as a whole. */
export function noteFor(kept: Kept, noted: Noted): void {
  Deno.writeTextFileSync(`${kept.notes}.part`, JSON.stringify(noted));
  Deno.renameSync(`${kept.notes}.part`, kept.notes);
}
