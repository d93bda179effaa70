/**
 * The host of the controller's own machine as a process: started, found again after it has outlived an earlier controller,
 * replaced, ended. It decides none of that.
 */
import { deadline } from "@std/async/deadline";
import type { Message } from "../wire/messages.ts";
import { isLoopback } from "../wire/tls.ts";
import { notStarted, notStartedMs } from "./host.ts";
import type { HostOptions } from "./host_options.ts";
import { netPermission } from "./permissions.ts";
import { isZombie, killProcess, lives, spawnActor, type SpawnedActor } from "./runtime/spawn.ts";
import { actorIds } from "./seats.ts";

const { localHost } = actorIds;
/** Longer than a host takes to kill an actor that does not stop. */
const stopGraceMs = 10_000;
const killGraceMs = 1_000;
/** Time for a host that has outlived an earlier controller to come; shorter than the controller's wait for its actors. */
const findMs = 2_000;

/** The host of this machine. */
export class LocalHost {
  #child: SpawnedActor | undefined;
  /** Process of one that an earlier controller had started. */
  #foundPid: number | undefined;
  /** How often in a row its process could not be started, and the timer of what is told of the last time. */
  #notStarted = 0;
  #telling: ReturnType<typeof setTimeout> | undefined;
  #replacing = false;
  #closing = false;
  #ended = false;

  /** @param tell Takes what the controller is to hear of the host's log and its end. */
  constructor(private readonly options: () => HostOptions, private readonly tell: (message: Message) => void) {
    // A host that outlives a controller that was killed must not outlive one that has chosen to end.
    globalThis.addEventListener("unload", this.#onUnload);
  }

  readonly #onUnload = () => {
    const pid = this.#foundPid ?? this.#child?.pid;
    // It takes its actors along.
    if (pid !== undefined && !this.#ended) killProcess(pid, Deno.build.os === "windows" ? "SIGKILL" : "SIGTERM");
  };

  /** Starts its process. */
  start(): void {
    const tell = (message: Message) => {
      // The end of a host that is being replaced was acted on.
      if (!this.#replacing || message.type !== "actor-exited") this.tell(message);
    };
    this.#child = undefined;
    clearTimeout(this.#telling);
    try {
      this.#child = spawnLocalHost(this.options(), tell);
      this.#notStarted = 0;
    } catch (error) {
      const lines = [notStarted(error)];
      const tellSo = () => tell({ type: "actor-exited", actor: localHost, code: -1, lines });
      this.#telling = setTimeout(tellSo, notStartedMs(this.#notStarted++));
    }
  }

  /** Waits for one that has outlived an earlier controller, whose pid `found` resolves to; starts one when none comes. */
  find(found: Promise<number>): void {
    deadline(found, findMs).then((pid) => this.#foundPid = pid, () => {
      if (!this.#closing) this.start();
    });
  }

  /** Ends the process, if it lives, and starts another. Its actors outlive it. */
  replace(): void {
    if (this.#replacing || this.#closing) return;
    this.#replacing = true;
    clearTimeout(this.#telling);
    this.#killFound();
    // Nothing gentler, which would end its actors too.
    const child = this.#child;
    if (child !== undefined) killProcess(child.pid);
    (child?.exited ?? Promise.resolve()).then(() => {
      this.#replacing = false;
      if (!this.#closing) this.start();
    });
  }

  /** Lets the host end its actors and itself, as it was told to, and kills it if it does not. */
  async end(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#telling);
    const until = performance.now() + stopGraceMs;
    const pid = this.#foundPid;
    while (pid !== undefined && lives(pid) && !await isZombie(pid) && performance.now() < until) {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    this.#killFound();
    if (this.#child !== undefined) {
      // Its end of stdin would end it at once.
      await deadline(this.#child.exited, stopGraceMs).catch(() => {});
      await this.#child.stop(killGraceMs);
    }
    this.#ended = true;
    globalThis.removeEventListener("unload", this.#onUnload);
  }

  #killFound(): void {
    if (this.#foundPid !== undefined) killProcess(this.#foundPid);
    this.#foundPid = undefined;
  }
}

function spawnLocalHost(hostOptions: HostOptions, tell: (message: Message) => void): SpawnedActor {
  const { controllerUrl, token, tls, listen, rejoinMs } = hostOptions;
  const host: SpawnedActor = spawnActor({
    entry: new URL("../main.ts", import.meta.url),
    // It passes LD_LIBRARY_PATH on, which Deno allows only to those who may run anything.
    permissions: [
      netPermission(isLoopback(listen) ? [listen] : []),
      "--allow-run",
      "--allow-env",
      "--allow-read",
    ],
    bootstrap: {
      id: localHost,
      role: "host",
      controller: actorIds.controller,
      controllerUrl,
      token,
      tls,
      listen,
      listenPort: 0,
      heartbeatMs: 1_000,
      rejoinMs,
      outlives: rejoinMs !== undefined,
      options: hostOptions,
    },
    onExit: ({ code }) => tell({ type: "actor-exited", actor: localHost, code, lines: host.logTail().slice(-20) }),
    onLogLine: (line) => tell({ type: "log-lines", actor: localHost, lines: [line.slice(0, 4_000)] }),
  });
  return host;
}
