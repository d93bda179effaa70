/**
 * What telling costs: memory by purpose and a line of metrics, per step, beside one replica's step of the quickstart. Each
 * is timed by itself, many times over, because its share of a step is far below the step's own spread.
 * `deno task bench overhead [--part FILE]`.
 */
import { buildModel } from "../actors/engine/build.ts";
import { memoryUse } from "../actors/engine/memory.ts";
import type { StepRecord } from "../actors/events.ts";
import { findPreset, parseConfig } from "../config.ts";
import { larc } from "../optim/larc.ts";
import { tensorFrom } from "../tensor/tensor.ts";
import type { Entry } from "./report.ts";
import { benchRunFiles } from "./run_files.ts";
import { SAMPLES_MIN, summarize } from "./statistics.ts";
import { stepOf } from "./step.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

const REPEATS = 2000;

/** Milliseconds per call of `action`, in samples of many calls. */
function timeEach(action: () => void): number[] {
  for (let i = 0; i < REPEATS; i++) action();
  return Array.from({ length: SAMPLES_MIN }, () => {
    const start = performance.now();
    for (let i = 0; i < REPEATS; i++) action();
    return (performance.now() - start) / REPEATS;
  });
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const step = stepOf(device);
  await step();
  const steps: number[] = [];
  for (let i = 0; i < SAMPLES_MIN; i++) {
    const start = performance.now();
    await step();
    steps.push(performance.now() - start);
  }

  const config = parseConfig({ ...findPreset("quickstart") }, { source: "the preset" });
  const model = buildModel(device, config);
  const optimizer = larc();
  const gradients = new Map(model.parameters.map(({ name, tensor }) => [
    name,
    tensorFrom(device, new Float32Array(tensor.size), tensor.shape),
  ]));
  optimizer.step(model.parameters, gradients, 0.1);
  const memory = timeEach(() => memoryUse(device, { model, optimizer, queues: new Map() }));

  const { files, remove } = await benchRunFiles(config);
  const record: StepRecord = {
    step: 100,
    epoch: 3,
    loss: 4.25,
    lossOverLnK: 0.92,
    learningRate: 0.001,
    imagesPerSecond: 150.5,
    dataMs: 0.1,
    computeMs: 350.25,
    syncMs: 60.5,
    prototypePerplexity: 55.5,
    embeddingDeviation: 0.11,
    deviceBytes: 123_456_789,
    memory: memoryUse(device, { model, optimizer, queues: new Map() }),
    elapsedMs: 123_456,
  };
  const line = timeEach(() => files.record({ kind: "step", record, steps: 200 }));
  await remove();

  const common = { suite: "overhead", arm: "ours", unit: "ms", better: "lower", error: null } as const;
  const entries: Entry[] = [
    { ...common, name: "step of one replica", ...summarize(steps) },
    { ...common, name: "memory by purpose", ...summarize(memory) },
    { ...common, name: "line of metrics", ...summarize(line) },
  ];
  const [whole] = entries;
  console.log(table(
    ["overhead", "median [least, greatest]", "of a step"],
    entries.map(({ name, median, min, max }) => [
      name,
      `${short(median)} [${short(min)}, ${short(max)}] ms`,
      `${(100 * median / whole.median).toFixed(3)}%`,
    ]),
  ));
  await finish(options, { device, entries });
}
