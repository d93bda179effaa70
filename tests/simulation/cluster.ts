/**
 * A whole cluster in one process, in virtual time, from a seed: the real controller, host, loader, Sinkhorn coordinator,
 * parameter sync, checkpointer and trainers' main threads, over simulated processes, links, disk and engines, with faults
 * at random moments. The same seed gives the same trace. What it checks holds for every seed.
 */
import { journalOf } from "../../actors/adopt.ts";
import { checkpointerBehavior } from "../../actors/checkpointer.ts";
import { controllerBehavior } from "../../actors/controller.ts";
import type { RunEvent } from "../../actors/events.ts";
import { hostBehavior, type SpawnOrder } from "../../actors/host.ts";
import { loaderBehavior } from "../../actors/loader.ts";
import { type ActorHandle, runActor } from "../../actors/runtime/loop.ts";
import { pulseMs } from "../../actors/runtime/pulse.ts";
import { lookForController } from "../../actors/runtime/rejoin.ts";
import type { Behavior } from "../../actors/runtime/behavior.ts";
import type { ActorExit, SpawnedActor } from "../../actors/runtime/spawn.ts";
import { sinkhornBehavior } from "../../actors/sinkhorn.ts";
import { syncBehavior } from "../../actors/sync.ts";
import { trainerBehavior, workerId } from "../../actors/trainer.ts";
import { DirectoryStore } from "../../checkpoint/store.ts";
import { findPreset, parseConfig, type TrainConfig } from "../../config.ts";
import { randomStream } from "../../data/random.ts";
import { sha256Hex } from "../../checkpoint/manifest.ts";
import { memoryLinkPair } from "../../wire/memory_link.ts";
import { judge, type Judgement } from "./checks.ts";
import { diskOf } from "./disk.ts";
import { SimulatedFiles } from "../checkpoint/simulated_files.ts";
import { VirtualClock } from "./clock.ts";
import { StubEngine } from "./engine.ts";
import { loaderParts } from "./images.ts";
import { SimulatedProcess, type World } from "./process.ts";

/** What a simulation came to. */
export interface SimulationResult extends Judgement {
  /** What was done to it. */
  readonly blows: readonly string[];
  /** SHA-256 of all that happened, with its virtual time. */
  readonly trace: string;
  readonly lines: readonly string[];
  readonly virtualMs: number;
}

const steps = 8;
const images = 25;
/** Longer than any run with its restarts; a cluster that is not done by then hangs. */
const limitMs = 600_000;

const config: TrainConfig = parseConfig({
  ...findPreset("test-tiny"),
  steps,
  checkpoint: { everySteps: 2, keep: 2 },
  cluster: { ...findPreset("test-tiny").cluster, trainers: 2, syncShards: 2, restarts: 12, stepTimeoutMs: 30_000 },
  data: { folder: "/images" },
  run: { folder: "/runs", name: "run" },
}, { source: "the simulation" });

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** How a cluster is treated. */
export interface SimulationOptions {
  /** Most blows that it gets. @default 4 */
  readonly blowsMax?: number;
  /** Whether trainer 1 computes one step wrongly, once. @default false */
  readonly wrongOnce?: boolean;
}

/** Runs one cluster to its end. */
export async function simulate(seed: number, options: SimulationOptions = {}): Promise<SimulationResult> {
  return await new SimulatedCluster(seed, options).run();
}

class SimulatedCluster {
  readonly #world: World;
  readonly #random: () => number;
  readonly #disk = new SimulatedFiles();
  #controller: SimulatedProcess;
  #loop: ActorHandle | undefined;
  #host: SimulatedProcess | undefined;
  readonly #processes = new Map<string, SimulatedProcess>();
  readonly #byPid = new Map<number, SimulatedProcess>();
  #started = 0;
  #replacing = false;
  readonly #lines: string[] = [];
  readonly #events: RunEvent[] = [];
  readonly #blows: string[] = [];
  #blowsLeft: number;
  #controllers = 1;

  #wrongLeft: number;

  constructor(seed: number, { blowsMax = 4, wrongOnce = false }: SimulationOptions) {
    this.#wrongLeft = wrongOnce ? 1 : 0;
    const stream = randomStream({ seed, purpose: "simulation" });
    this.#random = () => stream.uniform();
    this.#blowsLeft = Math.floor(this.#random() * (blowsMax + 1));
    this.#world = {
      clock: new VirtualClock(),
      random: this.#random,
      trace: (line) => this.#lines.push(`${this.#world.clock.now().toFixed(3)} ${line}`),
      listening: new Map(),
    };
    this.#controller = new SimulatedProcess(this.#world, "controller", "sim:controller");
  }

  async run(): Promise<SimulationResult> {
    const { clock } = this.#world;
    await this.#disk.makeFolder("/runs/run/checkpoints".slice(1));
    this.#startController();
    this.#startHost();
    // Often another machine joins, before the run's first step or in the middle of it.
    if (this.#blowsLeft > 0 && this.#random() < 0.5) clock.after(1_000 * this.#random(), () => this.#joinHost());
    while (!this.#ended() && clock.now() < limitMs && clock.runNext()) await turn();
    return this.#result();
  }

  /** The first controller, or one in place of a killed one, which knows the run's journal. */
  #startController(): void {
    const { clock } = this.#world, events = this.#events;
    const own = this.#controller;
    const saved = events.findLast((event) => event.kind === "saved");
    const commit = events.findLast((event) => event.kind === "commit")?.record;
    const attempt = events.reduce((most, event) => "attempt" in event ? Math.max(most, event.attempt + 1) : most, 0);
    const behavior = controllerBehavior({
      config,
      hosts: 1,
      attempt,
      resume: saved && {},
      adopt: journalOf(events, commit),
    }, {
      emit: (event) => own.alive && this.#hear(event),
      now: () => clock.now(),
      replaceLocalHost: () => this.#replaceHost(),
    });
    this.#loop = this.#runActor(own, behavior);
  }

  /** The controller dies, and its launcher starts another at its address; hosts and actors outlive it. */
  #killController(): void {
    this.#controllers++;
    this.#controller.kill();
    this.#loop?.stop("its process has ended");
    this.#loop = undefined;
    this.#world.clock.after(50 + 400 * this.#random(), () => {
      if (this.#ended()) return;
      this.#controller = new SimulatedProcess(this.#world, "controller", "sim:controller");
      this.#startController();
      // Its launcher finds no host where that has died with it.
      this.#world.clock.after(2_000, () => {
        if (!this.#ended() && !(this.#host?.alive ?? false) && !this.#replacing) this.#startHost();
      });
    });
  }

  #ended(): boolean {
    const last = this.#events.at(-1)?.kind;
    return last === "ended" || last === "failed";
  }

  #runActor<S>(process: SimulatedProcess, behavior: Behavior<S>): ActorHandle {
    const { id, network, clock } = process;
    const heartbeat = process === this.#controller ? undefined : { to: "controller", intervalMs: 1_000 };
    const log = (level: string, text: string) => this.#world.trace(`${id} ${level} ${text.split("\n")[0]}`);
    return runActor(behavior, { id, network, log, controller: "controller", clock, heartbeat });
  }

  #startHost(): void {
    this.#host = this.#start("host-0", (own) => this.#hostBehavior(own), {
      onExit: (code) => {
        if (this.#replacing) return;
        this.#loop?.post({ type: "actor-exited", actor: "host-0", code, lines: [] }, "host-0");
      },
    });
  }

  /** A host of another machine: of its end nobody hears but by its links. */
  #joinHost(): void {
    if (this.#ended()) return;
    this.#blows.push(`host-b joins at ${this.#world.clock.now().toFixed(0)} ms`);
    this.#start("host-b", (own) => this.#hostBehavior(own), { onExit: () => {} });
  }

  #hostBehavior(own: SimulatedProcess): ReturnType<typeof hostBehavior> {
    // As on real machines, only the actors of the host beside the controller outlive it.
    const find = own.id === "host-0" ? ({ pid }: { pid: number }) => this.#find(pid, own) : undefined;
    return hostBehavior({ adapters: [], spawn: (order) => this.#spawn(order, own), find });
  }

  #replaceHost(): void {
    if (this.#replacing) return;
    this.#replacing = true;
    this.#host?.kill();
    this.#world.clock.after(20 + 100 * this.#random(), () => {
      this.#replacing = false;
      if (!this.#ended()) this.#startHost();
    });
  }

  /** A process of its own for one actor, after the time that a start takes. */
  #start<S>(
    id: string,
    behaviorOf: (process: SimulatedProcess) => Behavior<S>,
    { onExit, attempt, parent }: { onExit: (code: number) => void; attempt?: number; parent?: SimulatedProcess },
  ): SimulatedProcess {
    const process = new SimulatedProcess(this.#world, id, `sim:${id}/${this.#started}`, attempt);
    const pid = ++this.#started;
    this.#processes.set(id, process);
    this.#byPid.set(pid, process);
    let code = 137;
    process.onDeath = () => this.#world.clock.after(1 + 5 * this.#random(), () => onExit(code));
    process.clock.after(30 + 200 * this.#random(), () => {
      process.network.addUrl("controller", this.#controller.url);
      const role = id.replace(/-\w+$/, "");
      const loop = this.#runActor(process, behaviorOf(process));
      const greet = () => process.network.send("controller", { type: "hello", id, role, url: process.url, pid });
      lookForController({
        network: process.network,
        controller: "controller",
        clock: process.clock,
        rejoinMs: 30_000,
        connect: () => process.connect("controller", this.#controller.url),
        onBack() {
          greet();
          loop.post({ type: "rejoined" });
        },
        onGone: () => parent?.alive === false && process.kill(),
      });
      process.outlives = parent?.id === "host-0";
      greet();
      const beat = () => {
        this.#loop?.post({ type: "pulse" }, id);
        process.clock.after(pulseMs, beat);
      };
      beat();
      loop.done.then((end) => {
        if (!process.alive) return;
        code = end.error === undefined ? 0 : 1;
        process.network.close(end.reason.slice(0, 100));
        process.kill();
      });
      const dead = process.onDeath;
      process.onDeath = () => {
        loop.stop("its process has ended");
        dead();
      };
    });
    return process;
  }

  #spawn({ id, role, attempt }: SpawnOrder, parent: SimulatedProcess): SpawnedActor {
    const exited = Promise.withResolvers<ActorExit>();
    const process = this.#start<unknown>(id, (own) => this.#behaviorOf(own, role) as Behavior<unknown>, {
      attempt,
      parent,
      onExit: (code) => parent.gate(() => exited.resolve({ code, signal: null })),
    });
    const { clock } = this.#world;
    // Its parent's end closes its stdin.
    const watch = () => {
      if (!parent.alive) process.gate(() => process.outlives || process.kill());
      if (process.alive) clock.after(40, watch);
    };
    watch();
    return {
      id,
      pid: this.#started,
      exited: exited.promise,
      logTail: () => [],
      stop: (graceMs) => {
        clock.after(5 * this.#random(), () => process.gate(() => process.kill()));
        clock.after(2 * graceMs, () => process.kill());
        return exited.promise;
      },
    };
  }

  /** A process of the host before `parent`, which that one is told of. */
  #find(pid: number, parent: SimulatedProcess): SpawnedActor {
    const exited = Promise.withResolvers<ActorExit>();
    const process = this.#byPid.get(pid);
    if (process === undefined) throw new Error(`there was no process ${pid}`);
    const { clock } = this.#world;
    const look = () => {
      if (process.alive) clock.after(50, look);
      else parent.gate(() => exited.resolve({ code: -1, signal: null }));
    };
    look();
    return {
      id: process.id,
      pid,
      exited: exited.promise,
      logTail: () => [],
      stop: (graceMs) => {
        clock.after(graceMs + 5 * this.#random(), () => process.gate(() => process.kill()));
        clock.after(2 * graceMs, () => process.kill());
        return exited.promise;
      },
    };
  }

  #behaviorOf(process: SimulatedProcess, role: string): Behavior<never> {
    switch (role) {
      case "trainer":
        return this.#trainer(process) as Behavior<never>;
      case "loader":
        return loaderBehavior(() => Promise.resolve(loaderParts(config, images))) as Behavior<never>;
      case "sinkhorn":
        return sinkhornBehavior() as Behavior<never>;
      case "sync":
        return syncBehavior() as Behavior<never>;
      case "checkpointer":
        return checkpointerBehavior(() =>
          new DirectoryStore("runs/run", { keepLast: 2, files: diskOf(process, this.#disk) })
        ) as Behavior<never>;
      default:
        throw new Error(`no role ${role}`);
    }
  }

  #trainer(process: SimulatedProcess): Behavior<unknown> {
    const [trainerSide, engineSide] = memoryLinkPair(process.id, workerId);
    // Computing takes time, in which the process may die or freeze.
    let lastAt = 0;
    const engine = new StubEngine(process.id, (message) => {
      const { clock } = process, now = clock.now();
      if (message.type === "contribute" && process.id === "trainer-1" && this.#wrongLeft > 0) {
        this.#wrongLeft--;
        engine.disturb();
      }
      lastAt = Math.max(lastAt, now + (message.type === "prepared" ? 50 : 1) * this.#random());
      clock.after(lastAt - now, () => engineSide.send(message));
    });
    engineSide.onMessage = (message) => process.gate(() => engine.receive(message));
    process.network.adopt(trainerSide);
    return trainerBehavior() as Behavior<unknown>;
  }

  #hear(event: RunEvent): void {
    if (event.kind === "status") return;
    this.#world.trace(
      `event ${event.kind}${event.kind === "restarting" ? ` ${event.failure.actor} ${event.failure.error}` : ""}`,
    );
    this.#events.push(event);
    if (event.kind !== "step" || this.#blowsLeft === 0 || this.#random() > 0.5) return;
    this.#blowsLeft--;
    this.#world.clock.after(400 * this.#random(), () => this.#blow());
  }

  /** Something bad happens to somebody. */
  #blow(): void {
    if (this.#ended()) return;
    // The controller itself now and then, which loses the hosts' links as well as all it knew.
    if (this.#controller.alive && this.#random() < 0.12) {
      this.#blows.push(`kill controller at ${this.#world.clock.now().toFixed(0)} ms`);
      this.#world.trace("blow kill controller");
      return this.#killController();
    }
    const alive = [...this.#processes.values()].filter((process) => process.alive);
    const victim = alive[Math.floor(this.#random() * alive.length)];
    if (victim === undefined) return;
    const kind = this.#random();
    const note = (what: string) => {
      this.#blows.push(`${what} at ${this.#world.clock.now().toFixed(0)} ms`);
      this.#world.trace(`blow ${what}`);
    };
    if (kind < 0.06) {
      // After which all start anew.
      note("kill all trainers");
      for (const process of alive) if (process.id.startsWith("trainer-")) process.kill();
    } else if (kind < 0.45) {
      note(`kill ${victim.id}`);
      victim.kill();
    } else if (kind < 0.65) {
      const ms = 4_000 * this.#random();
      note(`freeze ${victim.id} for ${ms.toFixed(0)} ms`);
      victim.freeze();
      this.#world.clock.after(ms, () => victim.thaw());
    } else if (kind < 0.85) {
      const links = [...victim.links];
      const link = links[Math.floor(this.#random() * links.length)];
      note(`cut ${victim.id} from ${link?.peer}`);
      link?.cut(this.#random() < 0.5);
      link?.close("cut");
    } else {
      const code = this.#random() < 0.5 ? "ENOSPC" : "EIO";
      note(`${code} on the disk`);
      this.#disk.plan(1 + Math.floor(20 * this.#random()), code);
    }
  }

  #result(): SimulationResult {
    const judged = judge(this.#events, images);
    const { clock } = this.#world;
    const faults = judged.ended
      ? judged.faults
      : [...judged.faults, `no end after ${clock.now().toFixed(0)} virtual ms`];
    const trace = sha256Hex(this.#lines.join("\n"));
    return { ...judged, faults, blows: this.#blows, trace, lines: this.#lines, virtualMs: clock.now() };
  }
}
