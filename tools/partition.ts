/**
 * A run over machines whose ways are cut and healed, compared with a run in peace. It runs as a process that has a network
 * of its own (`namespaces.ts`): `partitionRun` starts that process, and its last line is the report.
 */
import { delay } from "@std/async/delay";
import { runCluster } from "../actors/cluster.ts";
import type { RunEvent } from "../actors/events.ts";
import type { HostOptions } from "../actors/host_process.ts";
import { readTls } from "../actors/tls_files.ts";
import type { TrainConfigInput } from "../config.ts";
import { endOf, localHostOptions, startJoinedHost } from "./joined_host.ts";
import type { Traffic } from "./lossy_cable.ts";
import { Machines, makeCertificates, ownNetwork } from "./namespaces.ts";
import { digestInPeace, RunWatch } from "./run_watch.ts";
import { smallConfig, withImages } from "./small_run.ts";

/**
 * Which ways are cut: both between the controller's machine and another, one of them, or both between two others, with
 * trainers and shards on each. Lossy: none is cut, and the one cable loses, delays and throttles packets.
 */
export const scenarios = [
  "both ways",
  "to the controller",
  "from the controller",
  "between trainer and shard",
  "lossy",
] as const;

/** One of {@linkcode scenarios}. */
export type Scenario = typeof scenarios[number];

/** What came of it. */
export interface PartitionReport {
  readonly wrong: readonly string[];
  readonly steps: number;
  readonly expected: string;
  readonly found: string;
  /** Packets of cables with flaws. */
  readonly traffic: Traffic;
  /** What happened, in order. */
  readonly lines: readonly string[];
}

/** Longer than it takes to find out. */
const cutMs = 4_000;
/** A bad link between two sites. */
const flaws = { loss: 0.05, delayMs: 20, bitsPerSecond: 20e6, seed: 1 };
/** Steps over a bad cable. */
const lossySteps = 4;

/** Runs a scenario in a network of its own; a string is the reason why none is to be had. */
export async function partitionRun(
  scenario: Scenario,
  gpuEnvironment: Readonly<Record<string, string>>,
): Promise<PartitionReport | string> {
  const here = new URL(import.meta.url).pathname;
  const config = new URL("../deno.json", import.meta.url).pathname;
  const own = await ownNetwork([
    Deno.execPath(),
    "run",
    "-A",
    "--no-check",
    `--config=${config}`,
    here,
    scenario,
    JSON.stringify(gpuEnvironment),
  ]);
  if ("reason" in own) return own.reason;
  const [name, ...args] = own.args;
  const child = new Deno.Command(name, {
    args,
    env: { ...gpuEnvironment, NO_COLOR: "1" },
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await child.output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  if (code !== 0) {
    throw new Error(`exit code ${code}: ${lines.at(-1)} ${new TextDecoder().decode(stderr).slice(-2_000)}`);
  }
  return JSON.parse(lines[lines.length - 1]) as PartitionReport;
}

/** Hosts on the other machines, each started anew when it has ended. */
class Hosts {
  readonly #all: Deno.ChildProcess[] = [];
  #over = false;

  constructor(
    private readonly machines: Machines,
    private readonly options: Omit<HostOptions, "listen">,
    private readonly log: (line: string) => void,
  ) {}

  async keep(machine: number): Promise<void> {
    for (let start = 0; !this.#over; start++) {
      const id = `host-m${machine}s${start}`;
      const listen = this.machines.address(machine);
      const host = startJoinedHost(id, { ...this.options, listen }, { prefix: this.machines.prefix(machine) });
      this.#all.push(host);
      const { code } = await host.status;
      this.log(`${id} ended with code ${code}`);
      await delay(500);
    }
  }

  async end(): Promise<void> {
    this.#over = true;
    await Promise.all(this.#all.map(endOf));
  }
}

async function play(
  scenario: Scenario,
  { folder, gpuEnvironment }: { folder: string; gpuEnvironment: Readonly<Record<string, string>> },
): Promise<PartitionReport> {
  const count = scenario === "between trainer and shard" ? 3 : 2;
  const machines = await Machines.make(count, scenario === "lossy" ? { flaws } : {});
  const places = Array.from({ length: count }, (_, index) => machines.address(index + 1));
  const tls = await makeCertificates(folder, places);
  const lines: string[] = [];
  const begun = performance.now();
  const log = (line: string) => void lines.push(`${((performance.now() - begun) / 1000).toFixed(1)} s ${line}`);
  // What a cut delays is late soon; what a bad cable delays is not lost.
  const stepTimeoutMs = scenario === "lossy" ? 60_000 : 8_000;
  const settings = (cluster: TrainConfigInput["cluster"]): TrainConfigInput => ({
    steps: 100_000,
    replicas: count,
    syncBatchNormGroup: count,
    checkpoint: { everySteps: 2, keep: 2 },
    cluster: { trainers: count, syncShards: count, stepTimeoutMs, ...cluster },
  });
  const watch = new RunWatch();
  const over = new AbortController();
  let hosts: Hosts | undefined;
  const running = runCluster({
    config: smallConfig(folder, "cut", settings({ listen: places[0], tls })),
    hosts: count,
    signal: over.signal,
    gpuEnvironment,
    onListening({ url, token }) {
      const own = localHostOptions({ url, token }, { gpuEnvironment });
      hosts = new Hosts(machines, { ...own, tls: readTls(tls), grants: { ...own.grants, addresses: [] } }, log);
      for (let machine = 2; machine <= count; machine++) hosts.keep(machine);
    },
    onEvent(event) {
      tell(event, log);
      watch.take(event);
    },
  }).then((outcome) => {
    watch.end(outcome.outcome === "failed" ? `${outcome.failure.actor}: ${outcome.failure.error}` : undefined);
    return outcome;
  });
  try {
    const all = () => watch.took === count && watch.seats.length === count;
    await watch.until(() => all() && watch.next >= 2, "steps of all");
    await (scenario === "lossy" ? endure(watch) : cutAndHeal({ scenario, machines, watch, log, all }));
  } catch (error) {
    watch.wrong.push(error instanceof Error ? error.message : String(error));
  } finally {
    over.abort();
  }
  const outcome = await running;
  await hosts?.end();
  const traffic = await machines.end();
  const { wrong } = watch;
  if (outcome.outcome === "failed") {
    return { wrong, steps: 0, expected: "", found: outcome.failure.error, traffic, lines };
  }
  const config = smallConfig(folder, "peace", settings({}));
  const expected = await digestInPeace(config, { step: outcome.step, watch, gpuEnvironment, here: true });
  return { wrong, steps: outcome.step, expected, found: outcome.digest, traffic, lines };
}

/** What people want to know of an event. */
function tell(event: RunEvent, log: (line: string) => void): void {
  if (event.kind === "host-joined") log(`${event.host} joins`);
  if (event.kind === "newcomer-lost") log(`newcomer-lost: ${event.actor} ${event.error}`);
  if (event.kind === "ready") log(`${event.actor} is ready`);
  if (event.kind === "restarting") log(`restarting: ${event.failure.actor} ${event.failure.error}`);
  if (event.kind !== "regrouping") return;
  log(`regrouping: ${event.failure?.actor ?? ""} ${event.failure?.error ?? ""}; trainers ${event.trainers}`);
}

/** Steps over a cable with flaws, on which nobody is lost. */
async function endure(watch: RunWatch): Promise<void> {
  const until = watch.next + lossySteps;
  await watch.until(() => watch.next >= until, "more steps");
  if (watch.acted > 0) watch.wrong.push(`${watch.acted} losses were acted on where nobody was lost`);
}

async function cutAndHeal(
  { scenario, machines, watch, log, all }: {
    scenario: Exclude<Scenario, "lossy">;
    machines: Machines;
    watch: RunWatch;
    log: (line: string) => void;
    /** Whether all trainers take part. */
    all: () => boolean;
  },
): Promise<void> {
  const ways: Record<typeof scenario, readonly [number, number][]> = {
    "both ways": [[1, 2], [2, 1]],
    "to the controller": [[2, 1]],
    "from the controller": [[1, 2]],
    "between trainer and shard": [[2, 3], [3, 2]],
  };
  for (const [from, to] of ways[scenario]) await machines.cut(from, to);
  log(`cut before step ${watch.next}`);
  const { acted } = watch;
  await watch.until(() => watch.acted > acted, "the loss");
  const from = watch.next + 2;
  await watch.until(() => watch.next >= from, "steps without them");
  await delay(cutMs);
  for (const [from, to] of ways[scenario]) await machines.heal(from, to);
  log(`healed before step ${watch.next}`);
  await watch.until(all, "steps of all again");
  const until = watch.next + 2;
  await watch.until(() => watch.next >= until, "more steps");
}

if (import.meta.main) {
  const scenario = scenarios.find((each) => each === Deno.args[0]);
  if (scenario === undefined) {
    throw new TypeError(`partition takes one of ${scenarios.join(", ")}, found ${Deno.args[0]}`);
  }
  const gpuEnvironment: Record<string, string> = JSON.parse(Deno.args[1]);
  console.log(JSON.stringify(await withImages((folder) => play(scenario, { folder, gpuEnvironment }))));
  Deno.exit(0);
}
