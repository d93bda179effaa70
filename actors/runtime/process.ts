/**
 * What runs inside an actor's own process: reads its bootstrap from stdin, opens its network, says hello to the
 * controller, runs its behaviour, beats, and ends with it. When stdin ends, the parent is gone and so is the actor. It
 * knows roles only as a table given to it.
 */
import { deadline } from "@std/async/deadline";
import type { Policy } from "../../wire/admission.ts";
import { Identity } from "../../wire/identity.ts";
import { connectSocket } from "../../wire/socket_link.ts";
import { errorText } from "../../wire/link.ts";
import type { Log, Role } from "./behavior.ts";
import { type Bootstrap, parseBootstrap, parseRenewal } from "./bootstrap.ts";
import { stoppable } from "./breakpoints.ts";
import { logLine, LogTail } from "./log.ts";
import { type ActorEnd, runActor, stackText } from "./loop.ts";
import { openSocketNetwork } from "./network.ts";
import { startPulse } from "./pulse.ts";
import { lookForController } from "./rejoin.ts";

/** Exit codes of an actor's process. */
export const exitCodes = { ended: 0, failed: 1, badBootstrap: 2, parentGone: 3 } as const;

const bootstrapTimeoutMs = 10_000;
const renewalCharsMax = 4_096;
const bootstrapBytesMax = 16 * 1024 * 1024;

/** Runs the one actor of this process and exits with it; never returns. */
export async function runActorProcess(
  roles: Readonly<Record<string, Role>>,
  { policy }: { policy?: Policy } = {},
): Promise<never> {
  // Ctrl-C in a terminal reaches every process of the run; only the controller decides what it means.
  Deno.addSignalListener("SIGINT", () => {});
  const tail = new LogTail();
  const log: Log = (level, text) => {
    const line = logLine(level, text);
    tail.add(line);
    console.error(line);
  };
  let bootstrap: Bootstrap;
  let renew: (token: string) => void = () => {};
  try {
    bootstrap = await readBootstrap((token) => renew(token));
  } catch (error) {
    log("error", errorText(error));
    Deno.exit(exitCodes.badBootstrap);
  }
  try {
    const end = await runWith(bootstrap, { roles, log, tail, policy, onToken: (take) => renew = take });
    Deno.exit(end.error === undefined ? exitCodes.ended : exitCodes.failed);
  } catch (error) {
    log("error", error instanceof Error ? stackText(error) : String(error));
    Deno.exit(exitCodes.failed);
  }
}

async function runWith(
  bootstrap: Bootstrap,
  parts: {
    roles: Readonly<Record<string, Role>>;
    log: Log;
    tail: LogTail;
    policy: Policy | undefined;
    /** Calls back with each newer token that the parent sends. */
    onToken: (renew: (token: string) => void) => void;
  },
): Promise<ActorEnd> {
  const { id, controller, tls } = bootstrap;
  const token = typeof bootstrap.token === "string" ? bootstrap.token : new Identity(bootstrap.token);
  if (typeof token !== "string") parts.onToken((newer) => token.renew(newer));
  const { policy } = parts;
  const role = Object.hasOwn(parts.roles, bootstrap.role) ? parts.roles[bootstrap.role] : undefined;
  if (role === undefined) throw new TypeError(`starting ${id}: role "${bootstrap.role}" is unknown`);
  const listen = role.listens ? { hostname: bootstrap.listen, port: bootstrap.listenPort } : undefined;
  const opened = openSocketNetwork({ id, token, tls, policy, listen });
  const link = await connectSocket(bootstrap.controllerUrl, { id, token, tls, policy, peer: controller });
  if (link.peer !== controller) throw new TypeError(`starting ${id}: expected ${controller}, found ${link.peer}`);
  opened.network.addUrl(controller, bootstrap.controllerUrl);
  const behavior = await role.create({
    id,
    role: bootstrap.role,
    controller,
    options: bootstrap.options,
    adopt: (own) => opened.network.adopt(own),
  });
  opened.network.adopt(link);
  const greet = () =>
    opened.network.send(controller, { type: "hello", id, role: bootstrap.role, url: opened.url, pid: Deno.pid });
  greet();
  const { breakpoints } = bootstrap;
  const handle = runActor(behavior, {
    id,
    network: breakpoints === undefined ? opened.network : await stoppable(opened.network, breakpoints),
    log: parts.log,
    controller,
    logTail: () => parts.tail.lines(),
    heartbeat: { to: controller, intervalMs: bootstrap.heartbeatMs },
  });
  if (bootstrap.rejoinMs !== undefined) {
    lookForController({
      network: opened.network,
      controller,
      rejoinMs: bootstrap.rejoinMs,
      connect: () => connectSocket(bootstrap.controllerUrl, { id, token, tls, policy, peer: controller }),
      onBack() {
        greet();
        handle.post({ type: "rejoined" });
      },
      onLost: (reason) => parts.log("warn", `lost the controller and looks for it: ${reason}`),
    });
  }
  const endPulse = startPulse({ id, to: controller, url: bootstrap.controllerUrl, token, tls, policy });
  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    parts.log("error", event.reason instanceof Error ? stackText(event.reason) : String(event.reason));
    handle.stop("unhandled rejection");
  };
  globalThis.addEventListener("unhandledrejection", onRejection);
  const end = await handle.done;
  endPulse();
  // Waits for the last messages to leave.
  await deadline(opened.close(end.reason.slice(0, 100)), 5_000).catch(() => {});
  return end;
}

/** Reads the first line of stdin, then watches for its end in the background. */
async function readBootstrap(onToken: (token: string) => void): Promise<Bootstrap> {
  const reader = Deno.stdin.readable.getReader();
  const decoder = new TextDecoder();
  let text = "";
  const readLine = async (): Promise<string> => {
    while (true) {
      const { value, done } = await reader.read();
      if (done) throw new TypeError("starting an actor: stdin ended before its first line");
      text += decoder.decode(value, { stream: true });
      const lineEnd = text.indexOf("\n");
      if (lineEnd >= 0) return text.slice(0, lineEnd);
      if (text.length > bootstrapBytesMax) {
        throw new TypeError("starting an actor: its first line of stdin is too long");
      }
    }
  };
  const bootstrap = parseBootstrap(await deadline(readLine(), bootstrapTimeoutMs));
  const { outlives = false } = bootstrap;
  exitWithParent(reader, { rest: text.slice(text.indexOf("\n") + 1), onToken, outlives });
  return bootstrap;
}

async function exitWithParent(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  { rest, onToken, outlives }: { rest: string; onToken: (token: string) => void; outlives: boolean },
): Promise<void> {
  const decoder = new TextDecoder();
  try {
    while (true) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = (lines.pop() ?? "").slice(0, renewalCharsMax);
      for (const token of lines.map(parseRenewal)) if (token !== undefined) onToken(token);
    }
  } catch {
    // A broken pipe says the same as its end.
  }
  if (outlives) return;
  Deno.exit(exitCodes.parentGone);
}
