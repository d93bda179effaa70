/**
 * Kills and freezes actors of a real run, its host among them, by a seeded schedule and compares the final weights with
 * those of a run that nothing happened to: `deno task chaos --kills 50 --freezes 10 --seed 1`. Prints how long each loss
 * took to be acted on and how long until the run took a step it had never taken. `--matrix` tries every role in every phase
 * instead, each at its exact moment; `--cells TEXT` chooses those whose name holds the text. `--elastic N` has hosts join
 * and leave N times. Exits with 1 when the weights differ.
 */
import { parseArgs } from "@std/cli/parse-args";
import { runCluster } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import type { TrainConfig } from "../config.ts";
import { randomStream } from "../data/random.ts";
import { ensureVulkan } from "../setup/vulkan.ts";
import { elastic } from "./elastic.ts";
import { faultMatrix, printMatrix } from "./fault_matrix.ts";
import { actsOnLoss } from "./run_watch.ts";
import { smallConfig, withImages } from "./small_run.ts";

/** What to do to a run. */
export interface ChaosOptions {
  readonly kills: number;
  /** Processes stopped by SIGSTOP, at random places among the kills. @default 0 */
  readonly freezes?: number;
  readonly seed: number;
  /** Environment of processes that use the GPU. */
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  readonly log: (line: string) => void;
}

/** One kill or freeze and what came of it, milliseconds. */
export interface Kill {
  readonly victim: string;
  readonly frozen: boolean;
  /** Until the controller acted on it. */
  readonly detectedMs: number;
  /** Until a step was taken that had never been taken. */
  readonly recoveredMs: number;
  /** Steps taken again. */
  readonly repeated: number;
}

/** What came of a whole schedule. */
export interface ChaosReport {
  readonly expected: string;
  readonly found: string;
  readonly kills: readonly Kill[];
}

const roles = ["host-0", "checkpointer", "loader-0", "sinkhorn", "sync-0", "sync-1", "trainer-0", "trainer-1"];
/** A kill comes at a random moment of the step and a half after a new step. */
const delayMaxMs = 600;

/** Runs the model twice, in peace and under fire. */
export function chaos(options: ChaosOptions): Promise<ChaosReport> {
  return withImages(async (folder) => {
    const steps = 2 * (options.kills + (options.freezes ?? 0)) + 6;
    const peace = await runCluster({
      config: configOf(folder, "peace", steps),
      gpuEnvironment: options.gpuEnvironment,
    });
    if (peace.outcome === "failed") throw new Error(`the run in peace failed: ${peace.failure.error}`);
    options.log(`in peace: ${steps} steps, SHA-256 ${peace.digest}`);
    const fire = new Fire(options);
    const outcome = await runCluster({
      config: configOf(folder, "fire", steps),
      gpuEnvironment: options.gpuEnvironment,
      onEvent: (event) => fire.take(event),
    });
    fire.end();
    if (outcome.outcome === "failed") {
      throw new Error(`the run under fire failed: ${outcome.failure.actor}: ${outcome.failure.error}`);
    }
    return { expected: peace.digest, found: outcome.digest, kills: fire.kills };
  });
}

/** Watches one run and kills its actors. */
class Fire {
  readonly kills: Kill[] = [];
  readonly #options: ChaosOptions;
  readonly #pids = new Map<string, number>();
  #victims: () => number;
  /** Freezes and kills still to come. */
  readonly #left: { freezes: number; kills: number };
  #furthest = -1;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #shot: { victim: string; frozen: boolean; at: number; detectedMs?: number; repeated: number } | undefined;

  constructor(options: ChaosOptions) {
    this.#options = options;
    const stream = randomStream({ seed: options.seed, purpose: "chaos" });
    this.#victims = () => stream.uniform();
    this.#left = { freezes: options.freezes ?? 0, kills: options.kills };
  }

  take(event: RunEvent): void {
    if (event.kind === "started") this.#pids.set(event.actor, event.pid);
    // Until another has started under its name there is nobody to hit.
    for (const id of lostBy(event)) this.#pids.delete(id);
    if (actsOnLoss(event) && this.#shot !== undefined) {
      this.#shot.detectedMs ??= performance.now() - this.#shot.at;
    }
    if (event.kind !== "step") return;
    if (event.record.step <= this.#furthest) {
      if (this.#shot !== undefined) this.#shot.repeated++;
      return;
    }
    this.#furthest = event.record.step;
    this.#settle();
    if (this.#shot === undefined && this.#timer === undefined && this.#left.freezes + this.#left.kills > 0) {
      this.#timer = setTimeout(() => this.#shoot(), Math.floor(this.#victims() * delayMaxMs));
    }
  }

  end(): void {
    clearTimeout(this.#timer);
  }

  #shoot(): void {
    this.#timer = undefined;
    const victim = roles[Math.floor(this.#victims() * roles.length)];
    const pid = this.#pids.get(victim);
    if (pid === undefined) return;
    const left = this.#left, frozen = this.#victims() * (left.freezes + left.kills) < left.freezes;
    this.#shot = { victim, frozen, at: performance.now(), repeated: 0 };
    try {
      Deno.kill(pid, frozen ? "SIGSTOP" : "SIGKILL");
      left[frozen ? "freezes" : "kills"]--;
    } catch {
      this.#shot = undefined; // The run has just ended.
    }
  }

  /** A new step: the run is over the last kill, if that was noticed. */
  #settle(): void {
    const shot = this.#shot;
    if (shot?.detectedMs === undefined) return;
    const { victim, frozen, at, detectedMs, repeated } = shot;
    const kill = { victim, frozen, detectedMs, recoveredMs: performance.now() - at, repeated };
    this.kills.push(kill);
    this.#shot = undefined;
    const [detected, recovered] = [detectedMs, kill.recoveredMs].map((ms) => `${ms.toFixed(0)} ms`);
    const count = `${this.kills.length}/${this.#options.kills + (this.#options.freezes ?? 0)}`;
    this.#options.log(
      `${frozen ? "freeze" : "kill"} ${count} ${victim}: acted on after ${detected}, new step after ${recovered}`,
    );
  }
}

/** Whose process is gone, or about to be, by what an event tells. */
function lostBy(event: RunEvent): readonly string[] {
  switch (event.kind) {
    case "regrouping":
      return event.lost;
    case "newcomer-lost":
      return [event.actor];
    case "host-lost":
    case "restarting":
      return [event.failure.actor];
    default:
      return [];
  }
}

function configOf(folder: string, name: string, steps: number): TrainConfig {
  return smallConfig(folder, name, { steps, checkpoint: { everySteps: 1, keep: 3 }, cluster: { trainers: 2 } });
}

/** A run whose trainers come and go; the exit code. */
async function changing(changes: string, seed: string): Promise<number> {
  if (![changes, seed].every((number) => /^\d{1,9}$/.test(number)) || Number(changes) === 0) {
    console.error(`error: chaos takes --elastic and --seed NUMBER, found --elastic ${changes} --seed ${seed}`);
    return 2;
  }
  const log = (line: string) => console.log(line);
  const gpuEnvironment = await ensureVulkan({ log });
  const { wrong, steps, expected, found } = await withImages((folder) =>
    elastic({ folder, changes: Number(changes), seed: Number(seed), gpuEnvironment, log })
  );
  for (const each of wrong) log(`wrong: ${each}`);
  const same = wrong.length === 0 && expected === found;
  log(`${changes} changes in ${steps} steps, SHA-256 ${found}: ${same ? "the same weights" : "WRONG"}`);
  return same ? 0 : 1;
}

/** Every role in every phase, or the cells whose name holds a text; the exit code. */
async function matrix(text: string): Promise<number> {
  const log = (line: string) => console.log(line);
  const gpuEnvironment = await ensureVulkan({ log });
  return printMatrix(await faultMatrix({ text, gpuEnvironment, log }), log);
}

/** The share `q` of `values` that is at most this large. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? NaN;
}

if (import.meta.main) {
  const parsed = parseArgs(Deno.args, {
    string: ["kills", "freezes", "seed", "cells", "elastic"],
    boolean: ["matrix"],
  });
  if (parsed.elastic !== undefined) Deno.exit(await changing(`${parsed.elastic}`, `${parsed.seed ?? 0}`));
  if (parsed.matrix) Deno.exit(await matrix(`${parsed.cells ?? ""}`));
  const [kills, freezes, seed] = [parsed.kills ?? 5, parsed.freezes ?? 0, parsed.seed ?? 0].map(String);
  const counts = [kills, freezes].every((count) => /^\d{1,5}$/.test(count)) && Number(kills) + Number(freezes) > 0;
  if (!counts || !/^\d{1,9}$/.test(seed)) {
    const found = `--kills ${kills} --freezes ${freezes} --seed ${seed}`;
    console.error(`error: chaos takes --kills and --freezes 0…99999, not both 0, and --seed NUMBER, found ${found}`);
    Deno.exit(2);
  }
  const log = (line: string) => console.log(line);
  const gpuEnvironment = await ensureVulkan({ log });
  const report = await chaos({
    kills: Number(kills),
    freezes: Number(freezes),
    seed: Number(seed),
    gpuEnvironment,
    log,
  });
  for (const [name, frozen] of [["killed", false], ["frozen", true]] as const) {
    const shots = report.kills.filter((kill) => kill.frozen === frozen);
    if (shots.length === 0) continue;
    const spread = (pick: (kill: Kill) => number) =>
      [0.5, 0.95, 1].map((q) => quantile(shots.map(pick), q).toFixed(0)).join(" / ");
    log(`${shots.length} ${name}: acted on, ms (p50 / p95 / max):  ${spread(({ detectedMs }) => detectedMs)}`);
    log(`  until a new step, ms (p50 / p95 / max): ${spread(({ recoveredMs }) => recoveredMs)}`);
    log(`  steps taken again (p50 / p95 / max):    ${spread(({ repeated }) => repeated)}`);
  }
  const same = report.expected === report.found;
  log(`under fire: ${report.kills.length} losses, SHA-256 ${report.found}: ${same ? "the same weights" : "DIFFERENT"}`);
  Deno.exit(same && report.kills.length === Number(kills) + Number(freezes) ? 0 : 1);
}
