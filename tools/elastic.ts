/**
 * A run whose trainers come and go: hosts join it and are told to leave by SIGTERM every few steps, between one trainer and
 * four; it loses no step and ends with the weights of a run that nobody joined. The body of `deno task chaos --elastic N`.
 */
import { runCluster } from "../actors/cluster.ts";
import { randomStream } from "../data/random.ts";
import { endOf, localHostOptions, startJoinedHost } from "./joined_host.ts";
import { type Comparison, digestInPeace, RunWatch } from "./run_watch.ts";
import { smallConfig } from "./small_run.ts";

/** Which changes, and where. */
export interface ElasticOptions {
  /** Holds the images; the runs are written beside them. */
  readonly folder: string;
  readonly changes: number;
  readonly seed: number;
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  /** Whether this process can compute the run in peace itself, which is faster. @default false */
  readonly peaceHere?: boolean;
  readonly log: (line: string) => void;
}

/** What came of it. */
export interface ElasticReport extends Comparison {
  /** Trainers with replicas after each change. */
  readonly trainers: readonly number[];
}

const trainersMax = 4;
const stepsBetween = 2;

/** Runs the model with a changing number of trainers, then with one. */
export async function elastic(options: ElasticOptions): Promise<ElasticReport> {
  const { folder, changes, gpuEnvironment, peaceHere, log } = options;
  const stream = randomStream({ seed: options.seed, purpose: "elastic" });
  const config = (name: string) =>
    smallConfig(folder, name, { steps: 100_000, checkpoint: { everySteps: 10, keep: 2 }, cluster: { trainers: 1 } });
  const watch = new RunWatch();
  const crew = new Crew(watch, gpuEnvironment);
  const over = new AbortController();
  const running = runCluster({
    config: config("elastic"),
    gpuEnvironment,
    signal: over.signal,
    onListening: (run) => crew.run = run,
    onEvent: (event) => watch.take(event),
  }).then((outcome) => {
    watch.end(outcome.outcome === "failed" ? `${outcome.failure.actor}: ${outcome.failure.error}` : undefined);
    return outcome;
  });
  const trainers: number[] = [];
  try {
    for (let change = 0; change < changes; change++) {
      const others = [1, 2, 3, 4].filter((count) => count <= trainersMax && count !== (trainers.at(-1) ?? 1));
      const count = others[Math.floor(stream.uniform() * others.length)];
      await crew.resize(count);
      trainers.push(count);
      log(`${count} trainers from step ${watch.next - 1} on`);
      const until = watch.next + stepsBetween;
      await watch.until(() => watch.next >= until, `step ${until}`);
    }
  } catch (error) {
    watch.wrong.push(error instanceof Error ? error.message : String(error));
  } finally {
    over.abort();
  }
  const outcome = await running;
  await crew.ended();
  if (watch.acted > 0) watch.wrong.push(`${watch.acted} losses, where nobody was lost`);
  if (outcome.outcome === "failed") {
    return { trainers, wrong: watch.wrong, steps: 0, expected: "", found: outcome.failure.error };
  }
  const { step, digest } = outcome;
  const expected = await digestInPeace(config("peace"), { step, watch, gpuEnvironment, here: peaceHere });
  return { trainers, wrong: watch.wrong, steps: step, expected, found: digest };
}

/** Hosts that have joined, each with a trainer; the controller's own has one too. */
class Crew {
  run = { url: "", token: "" };
  readonly #here: Deno.ChildProcess[] = [];
  readonly #all: Deno.ChildProcess[] = [];

  constructor(
    private readonly watch: RunWatch,
    private readonly gpuEnvironment: Readonly<Record<string, string>>,
  ) {}

  /** Resolves when so many trainers have taken a step. */
  async resize(count: number): Promise<void> {
    const { watch } = this;
    await watch.until(() => watch.took > 0, "a step");
    while (this.#here.length + 1 > count) this.#here.shift()?.kill("SIGTERM");
    while (this.#here.length + 1 < count) {
      const options = localHostOptions(this.run, { gpuEnvironment: this.gpuEnvironment });
      const host = startJoinedHost(`host-e${this.#all.length}`, options);
      this.#here.push(host);
      this.#all.push(host);
    }
    await watch.until(() => watch.took === count, `a step of ${count} trainers`);
  }

  /** Resolves when all have ended, and says of those that did so in bad order. */
  async ended(): Promise<void> {
    await Promise.all(this.#all.map(endOf));
    for (const host of this.#all) {
      const { code, signal } = await host.status;
      if (code !== 0) this.watch.wrong.push(`a host ended with ${signal ?? code}`);
    }
  }
}
