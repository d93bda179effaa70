/**
 * Starts actors: each in a Deno process of its own with just the permissions given, or in this process over memory. Keeps
 * their last log lines and says how they ended. It decides nothing about restarts.
 */
import { deadline } from "@std/async/deadline";
import { kill as signalProcess } from "node:process";
import { errorText, type Link } from "../../wire/link.ts";
import type { ActorId, Role } from "./behavior.ts";
import { type Bootstrap, bootstrapLine } from "./bootstrap.ts";
import { type Clock, realClock } from "./clock.ts";
import { logLine, LogTail, oneLine } from "./log.ts";
import { type ActorHandle, runActor, stackText } from "./loop.ts";
import type { MemoryHub } from "./memory_hub.ts";

/** How an actor's process or in-process run ended. */
export interface ActorExit {
  /** Exit code; 0 when it ended in good order, -1 when nobody knows. */
  readonly code: number;
  readonly signal: string | null;
}

/** An actor that this process started. */
export interface SpawnedActor {
  readonly id: ActorId;
  readonly pid: number;
  /** Resolves when it has ended and its output is read; never rejects. */
  readonly exited: Promise<ActorExit>;
  /** Its last log lines, oldest first. */
  logTail(): string[];
  /** Ends it: closes its stdin, then terminates it after `graceMs`, then kills it after as long again. */
  stop(graceMs: number): Promise<ActorExit>;
}

/** Options that both ways of starting share. */
interface SpawnHooks {
  /** Gets each log line. */
  onLogLine?: (line: string) => void;
  /** Told when the actor has ended. */
  onExit?: (exit: ActorExit) => void;
}

/** Options of {@linkcode spawnActor}. */
export interface SpawnOptions extends SpawnHooks {
  bootstrap: Bootstrap;
  /** Deno permission flags, e.g. `["--allow-net=127.0.0.1"]`. */
  permissions: readonly string[];
  /** Environment of the process, beside the few variables that Deno itself needs. */
  env?: Readonly<Record<string, string>>;
  /** Module to run; it calls `runActorProcess` when its first argument is `actor`. */
  entry: string | URL;
}

/** Variables that Deno needs to find its cache. */
const inherited = ["DENO_DIR", "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA", "USERPROFILE", "SYSTEMROOT", "PATH", "TMPDIR"];

/** Reads this module's environment; also what every actor is allowed to read, for msgpackr. */
const msgpackrSwitch = "MSGPACKR_NATIVE_ACCELERATION_DISABLED";

/** Starts an actor in a process of its own. */
export function spawnActor(options: SpawnOptions): SpawnedActor {
  const { bootstrap } = options;
  const env: Record<string, string> = { NO_COLOR: "1", [msgpackrSwitch]: "true" };
  for (const name of inherited) {
    const value = Deno.env.get(name);
    if (value !== undefined) env[name] = value;
  }
  const process = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--cached-only",
      "--frozen",
      ...withMsgpackr(options.permissions),
      entryOf(options),
      "actor",
    ],
    clearEnv: true,
    env: { ...env, ...options.env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const tail = new LogTail();
  const onLine = (line: string) => {
    tail.add(line);
    options.onLogLine?.(line);
  };
  const writer = process.stdin.getWriter();
  // Held open: its end tells the child that the parent is gone. A child that dies at once breaks the pipe, and says why itself.
  writer.write(new TextEncoder().encode(bootstrapLine(bootstrap))).catch(() => {});
  const output = Promise.all([readLines(process.stdout, onLine), readLines(process.stderr, onLine)]);
  const exited = process.status.then(async ({ code, signal }) => {
    // A grandchild may keep the pipe open; it must not keep us.
    await deadline(output, 2_000).catch(() => {});
    await writer.close().catch(() => {});
    const exit = { code, signal };
    options.onExit?.(exit);
    return exit;
  });
  return {
    id: bootstrap.id,
    pid: process.pid,
    exited,
    logTail: () => tail.lines(),
    async stop(graceMs: number): Promise<ActorExit> {
      writer.close().catch(() => {});
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        const exit = await deadline(exited, graceMs).catch(() => undefined);
        if (exit !== undefined) return exit;
        killProcess(process, signal);
      }
      return await exited;
    },
  };
}

/** Time between two looks at a process that another has started, and how many of them it takes to look more closely. */
const lookMs = 50, closeLooks = 20;
/** Longest wait for a killed process to go. */
const goneMs = 1_000;

/** Watches over an actor that has outlived the process that started it: nobody reads its output or knows its exit code. */
export function findActor({ id, pid }: { id: ActorId; pid: number }): SpawnedActor {
  const ended = Promise.withResolvers<ActorExit>();
  const end = () => {
    clearInterval(looking);
    ended.resolve({ code: -1, signal: null });
  };
  let looks = 0;
  const looking = setInterval(() => {
    if (!lives(pid)) end();
    else if (++looks % closeLooks === 0) isZombie(pid).then((zombie) => zombie && end());
  }, lookMs);
  const endedWithin = async (ms: number): Promise<ActorExit | undefined> => {
    if (!lives(pid) || await isZombie(pid)) end();
    return await deadline(ended.promise, ms).catch(() => undefined);
  };
  return {
    id,
    pid,
    exited: ended.promise,
    logTail: () => [],
    async stop(graceMs: number): Promise<ActorExit> {
      for (const signal of ["SIGTERM", "SIGKILL"] as const) {
        const exit = await endedWithin(graceMs);
        if (exit !== undefined) return exit;
        killProcess(pid, signal);
      }
      for (let waited = 0; waited < goneMs; waited += lookMs) {
        const exit = await endedWithin(lookMs);
        if (exit !== undefined) return exit;
      }
      // Nothing more can be done about it, and its tokens are void.
      end();
      return await ended.promise;
    },
  };
}

/** Sends a signal to a process, told by its number or a child of this one, if it lives. */
export function killProcess(process: number | Deno.ChildProcess, signal: Deno.Signal = "SIGKILL"): void {
  try {
    if (typeof process === "number") Deno.kill(process, signal);
    else process.kill(signal);
  } catch {
    // It has ended meanwhile.
  }
}

/** Whether there is a process of this number, be it one that has ended and that nobody has waited for ({@linkcode isZombie}). */
export function lives(pid: number): boolean {
  try {
    return signalProcess(pid, 0);
  } catch {
    return false;
  }
}

/** Whether a process has ended and nobody has waited for it, as in containers whose first process waits for no orphans. */
export async function isZombie(pid: number): Promise<boolean> {
  if (Deno.build.os !== "linux") return false;
  try {
    // Deno lets only those read there themselves who may do anything. proc(5): "pid (name) state …", with any name.
    const args = [`/proc/${pid}/stat`];
    const { stdout } = await new Deno.Command("cat", { args, stdin: "null", stderr: "null" }).output();
    const line = new TextDecoder().decode(stdout);
    return ["Z", "X"].includes(line.slice(line.lastIndexOf(")") + 2)[0]);
  } catch {
    return false;
  }
}

/** Options of {@linkcode spawnInProcess}. */
export interface InProcessOptions extends SpawnHooks {
  bootstrap: Omit<Bootstrap, "controllerUrl" | "token" | "listen" | "listenPort">;
  role: Role;
  hub: MemoryHub;
  clock?: Clock;
}

/** Starts an actor in this process, over the hub's memory links. */
export function spawnInProcess(options: InProcessOptions): SpawnedActor {
  const { bootstrap, hub } = options;
  const { id, role, controller } = bootstrap;
  const tail = new LogTail();
  const log = (level: Parameters<typeof logLine>[0], text: string) => {
    const line = logLine(level, text);
    tail.add(line);
    options.onLogLine?.(line);
  };
  let handle: ActorHandle | undefined;
  let stopped: string | undefined;
  const run = async (): Promise<ActorExit> => {
    try {
      const network = hub.network(id, { clock: options.clock });
      const adopt = (link: Link) => network.adopt(link);
      const behavior = await options.role.create({ id, role, controller, options: bootstrap.options, adopt });
      if (stopped !== undefined) {
        hub.remove(id, stopped);
        return { code: 0, signal: null };
      }
      const url = options.role.listens ? hub.url(id) : null;
      network.send(controller, { type: "hello", id, role, url, pid: Deno.pid });
      handle = runActor(behavior, {
        id,
        network,
        log,
        controller,
        clock: options.clock ?? realClock,
        logTail: () => tail.lines(),
        heartbeat: { to: controller, intervalMs: bootstrap.heartbeatMs },
      });
      const end = await handle.done;
      hub.remove(id, end.reason);
      return { code: end.error === undefined ? 0 : 1, signal: null };
    } catch (error) {
      log("error", error instanceof Error ? stackText(error) : errorText(error));
      return { code: 1, signal: null };
    }
  };
  const exited = run().then((exit) => {
    options.onExit?.(exit);
    return exit;
  });
  return {
    id,
    pid: Deno.pid,
    exited,
    logTail: () => tail.lines(),
    stop(): Promise<ActorExit> {
      stopped = "stopped by its parent";
      handle?.stop(stopped);
      return exited;
    },
  };
}

/** The flags with the one environment variable that msgpackr reads added to what is allowed already. */
function withMsgpackr(permissions: readonly string[]): string[] {
  if (permissions.includes("--allow-env") || permissions.includes("--allow-all") || permissions.includes("-A")) {
    return [...permissions];
  }
  const index = permissions.findIndex((flag) => flag.startsWith("--allow-env="));
  if (index < 0) return [...permissions, `--allow-env=${msgpackrSwitch}`];
  return permissions.map((flag, at) => at === index ? `${flag},${msgpackrSwitch}` : flag);
}

function entryOf(options: SpawnOptions): string {
  return options.entry instanceof URL ? options.entry.href : options.entry;
}

/** Calls `onLine` with each line, long ones cut, control characters escaped. */
async function readLines(stream: ReadableStream<Uint8Array>, onLine: (line: string) => void): Promise<void> {
  const lineLengthMax = 16_384;
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of stream) {
    rest += decoder.decode(bytes, { stream: true });
    const lines = rest.split("\n");
    rest = (lines.pop() ?? "").slice(0, lineLengthMax);
    for (const line of lines) onLine(oneLine(line.slice(0, lineLengthMax)));
  }
  if (rest !== "") onLine(oneLine(rest));
}
