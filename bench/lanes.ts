/**
 * Trunk passes of both crop sizes side by side against in turn, where batch statistics are a group's: the whole SwAV step
 * of a RegNetY-400MF with exchanges that take a given time each. `deno task bench lanes`. The other member of the group is
 * made up and has the same numbers; an exchange stops this thread, which has nothing else to do meanwhile in either case.
 */
import type { Collective } from "../collectives/collective.ts";
import type { Device } from "../device/device.ts";
import type { Entry } from "./report.ts";
import { roundOrder, SAMPLES_MIN, summarize } from "./statistics.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";
import { openStep, stepConfig } from "./training_step.ts";

/** Milliseconds of an exchange. */
const LATENCIES = [0, 0.2, 5];
const IMAGES = 2;

/** A group of two whose other member always has the same numbers, and how often it was asked. */
class SlowGroup implements Collective {
  readonly size = 2;
  readonly #sleeper = new Int32Array(new SharedArrayBuffer(4));
  latencyMs = 0;
  exchanges = 0;

  allReduce(_key: string, values: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>> {
    this.exchanges += 1;
    if (this.latencyMs > 0) Atomics.wait(this.#sleeper, 0, 0, this.latencyMs);
    return Promise.resolve(values.map((value) => 2 * value));
  }
}

async function measure(device: Device): Promise<Entry[]> {
  const config = stepConfig({ network: "regnety_400mf", images: IMAGES, precision: "f32", again: false });
  const arms = [{ name: "in turn", passesInTurn: true }, { name: "side by side", passesInTurn: false }]
    .map(({ name, passesInTurn }) => {
      const group = new SlowGroup();
      return { name, group, step: openStep(device, config, { collective: group, passesInTurn }) };
    });
  const losses: number[] = [];
  for (const { step } of arms) losses.push(await step.take());
  if (losses[0] !== losses[1]) throw new Error(`Both ways must give the same loss, they gave ${losses.join(" and ")}`);
  const exchanges = arms.map(({ group }) => group.exchanges);
  const entries: Entry[] = [];
  for (const latencyMs of LATENCIES) {
    const samples = arms.map((): number[] => []);
    for (let round = 0; round < SAMPLES_MIN; round++) {
      for (const index of roundOrder(arms.length, round)) {
        const { group, step } = arms[index];
        group.latencyMs = latencyMs;
        const start = performance.now();
        await step.take();
        samples[index].push(performance.now() - start);
      }
    }
    entries.push(...arms.map(({ name }, index): Entry => ({
      suite: "lanes",
      name: `400MF, ${IMAGES} images, exchanges of ${latencyMs} ms`,
      arm: name,
      unit: "ms",
      better: "lower",
      error: 0,
      note: `${exchanges[index]} exchanges a step`,
      ...summarize(samples[index]),
    })));
  }
  for (const { step } of arms) step.dispose();
  return entries;
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const entries = await measure(device);
  console.log(table(
    ["step", "arm", "median [least, greatest]", ""],
    entries.map(({ name, arm, median, min, max, note }) => [
      name,
      arm,
      `${short(median)} [${short(min)}, ${short(max)}] ms`,
      note ?? "",
    ]),
  ));
  await finish(options, { device, entries });
}
