/**
 * What runs inside an actor's own process: reads its bootstrap from stdin, opens its network, says hello to the
 * controller, runs its behaviour, beats, and ends with it. When stdin ends, the parent is gone and so is the actor, unless
 * it was told to outlive it: then it ends with its controller. It knows roles only as a table given to it.
 */
import { deadline } from "@std/async/deadline";
import type { Policy } from "../../wire/admission.ts";
import { Identity } from "../../wire/identity.ts";
import { connectSocket } from "../../wire/socket_link.ts";
import { errorText, type Link } from "../../wire/link.ts";
import type { Log, Role } from "./behavior.ts";
import { type Bootstrap, parseBootstrap } from "./bootstrap.ts";
import { stoppable } from "./breakpoints.ts";
import { LineBatches, logLine, LogTail } from "./log.ts";
import { type ActorEnd, type ActorHandle, runActor, stackText } from "./loop.ts";
import { type LinkNetwork, openSocketNetwork } from "./network.ts";
import { startPulse } from "./pulse.ts";
import { lookForController } from "./rejoin.ts";

/** Exit codes of an actor's process. */
export const exitCodes = { ended: 0, failed: 1, badBootstrap: 2, parentGone: 3 } as const;

const bootstrapTimeoutMs = 10_000;
const bootstrapBytesMax = 16 * 1024 * 1024;

/** Runs the one actor of this process and exits with it; never returns. */
export async function runActorProcess(
  roles: Readonly<Record<string, Role>>,
  { policy }: { policy?: Policy } = {},
): Promise<never> {
  // Ctrl-C in a terminal reaches every process of the run; only the controller decides what it means.
  Deno.addSignalListener("SIGINT", () => {});
  const tail = new LogTail();
  let write = (line: string) => console.error(line);
  const log: Log = (level, text) => {
    const line = logLine(level, text);
    tail.add(line);
    write(line);
  };
  let bootstrap: Bootstrap;
  const parent = new Parent();
  try {
    bootstrap = await parent.bootstrap();
  } catch (error) {
    log("error", errorText(error));
    Deno.exit(exitCodes.badBootstrap);
  }
  try {
    const end = await runWith(bootstrap, { roles, log, tail, policy, parent, writeTo: (other) => write = other });
    Deno.exit(end.error === undefined ? exitCodes.ended : exitCodes.failed);
  } catch (error) {
    log("error", error instanceof Error ? stackText(error) : String(error));
    Deno.exit(exitCodes.failed);
  }
}

/** What a process has beside its bootstrap. */
interface Parts {
  readonly roles: Readonly<Record<string, Role>>;
  readonly log: Log;
  readonly tail: LogTail;
  readonly policy: Policy | undefined;
  readonly parent: Parent;
  /** Has log lines written elsewhere than to stderr. */
  readonly writeTo: (write: (line: string) => void) => void;
}

async function runWith(bootstrap: Bootstrap, parts: Parts): Promise<ActorEnd> {
  const { id, controller, tls } = bootstrap;
  const token = typeof bootstrap.token === "string" ? bootstrap.token : new Identity(bootstrap.token);
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
  const connect = () => connectSocket(bootstrap.controllerUrl, { id, token, tls, policy, peer: controller });
  hangOn(bootstrap, { network: opened.network, handle, greet, connect, ...parts });
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

/**
 * Looks for a controller that was lost, if the bootstrap says so, and goes on without a parent, if it says that. A process
 * that has neither any more ends.
 */
function hangOn(
  { id, controller, rejoinMs, outlives }: Bootstrap,
  { network, handle, greet, connect, parent, log, writeTo }: Pick<Parts, "parent" | "log" | "writeTo"> & {
    network: LinkNetwork;
    handle: ActorHandle;
    greet: () => void;
    connect: () => Promise<Link>;
  },
): void {
  const controllerGone = () => void parent.gone.then(() => handle.stop("its parent and its controller are gone"));
  if (rejoinMs === undefined) {
    network.onLost = (peer) => {
      if (peer === controller) controllerGone();
      return false;
    };
  } else {
    lookForController({
      network,
      controller,
      rejoinMs,
      connect,
      onBack() {
        greet();
        handle.post({ type: "rejoined" });
      },
      onLost: (reason) => log("warn", `lost the controller and looks for it: ${reason}`),
      onGone: controllerGone,
    });
  }
  if (!outlives) return;
  parent.outlive(() => {
    // Nobody reads stderr any more.
    const batches = new LineBatches((lines) => network.send(controller, { type: "log-lines", actor: id, lines }));
    writeTo((line) => batches.add(line));
    log("warn", "its parent is gone; it goes on as long as it has its controller");
  });
}

/** The process that started this one, at the other end of stdin. */
class Parent {
  readonly #gone = Promise.withResolvers<void>();
  #onGone: () => void = () => Deno.exit(exitCodes.parentGone);

  /** Resolves when it has ended. */
  get gone(): Promise<void> {
    return this.#gone.promise;
  }

  /** This process goes on without it; `onGone` is told. */
  outlive(onGone: () => void): void {
    this.#onGone = onGone;
  }

  /** Reads the first line of stdin, then watches for its end in the background. */
  async bootstrap(): Promise<Bootstrap> {
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
    this.#watch(reader);
    return bootstrap;
  }

  async #watch(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    try {
      while (!(await reader.read()).done);
    } catch {
      // A broken pipe says the same as its end.
    }
    this.#gone.resolve();
    this.#onGone();
  }
}
