/**
 * A host that joins a run under fire, as a process of its own, with breakpoints in its actors: what `main.ts host` is to a
 * person's run. A SIGTERM makes it leave.
 */
import { deadline } from "@std/async/deadline";
import { type HostOptions, joinAsHost, leaveOnSigterm } from "../actors/host_process.ts";
import type { Log } from "../actors/runtime/behavior.ts";

/** Starts a host's process; its output is this process's, if `verbose`. */
export function startJoinedHost(
  id: string,
  options: HostOptions,
  { prefix = [], verbose = false }: { /** Command in front. */ prefix?: readonly string[]; verbose?: boolean } = {},
): Deno.ChildProcess {
  const root = new URL("..", import.meta.url).pathname;
  const line = [
    ...prefix,
    Deno.execPath(),
    "run",
    "-A",
    "--no-check",
    `--config=${root}deno.json`,
    new URL(import.meta.url).pathname,
  ];
  const child = new Deno.Command(line[0], {
    args: line.slice(1),
    env: { NO_COLOR: "1" },
    stdin: "piped",
    stdout: verbose ? "inherit" : "null",
    stderr: verbose ? "inherit" : "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  // One that is killed at once breaks the pipe.
  writer.write(new TextEncoder().encode(JSON.stringify({ id, options }))).then(() => writer.close()).catch(() => {});
  return child;
}

/** Resolves when a host's process has ended; one that was frozen, or does not end with its run, is killed. */
export async function endOf(host: Deno.ChildProcess): Promise<void> {
  await deadline(host.status, 10_000).catch(() => host.kill("SIGKILL"));
  await host.status;
}

/** What a host on this machine lets its actors do. */
export function localHostOptions(
  run: { url: string; token: string },
  { gpuEnvironment, breakpoints }: { gpuEnvironment: Readonly<Record<string, string>>; breakpoints?: string },
): HostOptions {
  return {
    controllerUrl: run.url,
    token: run.token,
    listen: "127.0.0.1",
    gpuEnvironment,
    adapters: [],
    grants: {
      addresses: ["127.0.0.1"],
      dataFolder: "",
      codeFolder: new URL("..", import.meta.url).pathname,
      dawn: false,
    },
    breakpoints,
  };
}

if (import.meta.main) {
  const { id, options }: { id: string; options: HostOptions } = JSON.parse(
    await new Response(Deno.stdin.readable).text(),
  );
  const log: Log = (level, text) => console.error(`${level} ${text}`);
  const end = await joinAsHost(id, options, log, leaveOnSigterm(log));
  console.error(`${id} ended: ${end.reason}`);
  Deno.exit(end.error === undefined ? 0 : 1);
}
