import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { stepUses } from "../../actors/engine/shapes.ts";
import { chooseKernels, settleKernels, type SettleOptions } from "../../api/tuning.ts";
import { pickAdapter, timingProcess, trainerAdapters } from "../../api/tuning_process.ts";
import { kernelTable } from "../../api/tuning_text.ts";
import { ConfigError, findPreset, parseConfig } from "../../config.ts";
import { choiceKey } from "../../device/choices.ts";
import { openDevice, surveyAdapters } from "../../device/open.ts";
import type { HeavyUse } from "../../device/tune_shapes.ts";
import { candidatesOf, tune, type TunedChoice, variantsDigest } from "../../device/tuner.ts";
import type { HeavyOperation, Variant } from "../../kernels/variant.ts";
import { adapter } from "../device/adapter.ts";
import { eachDevice } from "../devices.ts";

const config = parseConfig(findPreset("test-tiny"), { source: "the test" });

interface Length {
  readonly length: number;
}

/** An operation with a slow default, a quick variant, and one that never runs. */
function operation(text = "quick text"): HeavyOperation<Length, "input"> {
  const variant = (name: string, wgsl: string, refusal?: string): Variant<Length, "input"> => ({
    name,
    family: "registers",
    refuses: () => refusal,
    program: () => ({
      launches: [{ kernel: { label: name, wgsl, bindings: ["write"], workgroups: [1, 1, 1] }, buffers: ["input"] }],
      workspaceBytes: 0,
    }),
  });
  const variants = [variant("usual", "text"), variant("quick", text), variant("matrix", "", "no matrix units")];
  return {
    name: "work",
    describe: ({ length }) => String(length),
    variants: () => variants,
    usual: () => variants[0],
    flops: ({ length }) => length,
    bufferBytes: ({ length }) => ({ input: length }),
  };
}

function usesOf(lengths: readonly number[], made = operation()): HeavyUse[] {
  return lengths.map((length) => ({ key: choiceKey(made, { length }), operation: made, shape: { length } }));
}

/** Options whose timer finds "quick" the fastest, with what it was asked and what was printed. */
function prepare(folder: string, changes: Partial<SettleOptions> = {}, uses = usesOf([1, 2])) {
  const asked: string[][] = [], lines: string[] = [];
  const device = changes.adapter ?? adapter({ kind: "gpu" });
  const options: SettleOptions = {
    config,
    adapter: device,
    cacheFolder: folder,
    log: (line) => lines.push(line),
    time(keys, onChoice) {
      asked.push([...keys]);
      for (const use of uses.filter(({ key }) => keys.includes(key))) onChoice(quick(use, device));
      return Promise.resolve();
    },
    ...changes,
  };
  return {
    asked,
    lines,
    choose: async () => (await chooseKernels(uses, options)).map((k) => `${k.variant} ${k.source}`),
  };
}

function quick(use: HeavyUse, device = adapter({ kind: "gpu" })): TunedChoice {
  const digest = variantsDigest(use, { ...device, ...device.limits });
  const common = { key: use.key, usual: "usual", flops: 8, skipped: [{ variant: "wrong", reason: "differs" }] };
  return { ...common, variant: "quick", medianMs: 1, usualMs: 2, digest, complete: true };
}

async function withFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "tuning-" });
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a GPU is tuned once: what is timed is kept, and only what is missing or stale is timed again", async () => {
  await withFolder(async (folder) => {
    const first = prepare(folder);
    assertEquals(await first.choose(), ["quick tuned", "quick tuned"]);
    assertEquals(first.asked, [["work: 1", "work: 2"]]);
    const again = prepare(folder, {}, usesOf([1, 2, 3]));
    assertEquals(await again.choose(), ["quick cached", "quick cached", "quick tuned"]);
    assertEquals(again.asked, [["work: 3"]]);
    const edited = prepare(folder, {}, usesOf([1], operation("another text")));
    assertEquals(await edited.choose(), ["quick tuned"]);
    const asked = prepare(folder, { again: true }, usesOf([2, 3]));
    await asked.choose();
    assertEquals(asked.asked, [["work: 2", "work: 3"]]);
  });
});

Deno.test("`off` takes the stated defaults, whatever was timed before", async () => {
  await withFolder(async (folder) => {
    await prepare(folder).choose();
    const off = prepare(folder, { mode: "off" });
    assertEquals(await off.choose(), ["usual default", "usual default"]);
    assertEquals(off.asked, []);
  });
});

Deno.test("on a software adapter `auto` times nothing and uses what was timed before; `on` times", async () => {
  await withFolder(async (folder) => {
    const cpu = adapter();
    const auto = prepare(folder, { adapter: cpu });
    assertEquals(await auto.choose(), ["usual default", "usual default"]);
    assertEquals([auto.asked, auto.lines.length], [[], 1]);
    assertStringIncludes(auto.lines[0], "deno task tune");
    assertEquals(await prepare(folder, { adapter: cpu, mode: "on" }).choose(), ["quick tuned", "quick tuned"]);
    const filled = prepare(folder, { adapter: cpu });
    assertEquals(await filled.choose(), ["quick cached", "quick cached"]);
    assertEquals(filled.lines, []);
  });
});

Deno.test("a line is printed for each choice, and one for each distinct reason to leave a variant out", async () => {
  await withFolder(async (folder) => {
    const { choose, lines } = prepare(folder);
    await choose();
    assertEquals(lines, [
      'tuning 2 kernels for "made-up adapter", once; --no-tune does without',
      '  left out "matrix": no matrix units',
      "[1/2] work: 1: quick  1.000 ms  0.0 GFLOP/s  2.00× the default (usual)",
      '  left out "wrong": differs',
      "[2/2] work: 2: quick  1.000 ms  0.0 GFLOP/s  2.00× the default (usual)",
    ]);
  });
});

Deno.test("a timer that breaks down leaves the rest to the defaults, and what it found is kept", async () => {
  await withFolder(async (folder) => {
    const uses = usesOf([1, 2]);
    const broken = prepare(folder, {
      time(_keys, onChoice) {
        onChoice(quick(uses[0]));
        return Promise.reject(new Error("the driver crashed"));
      },
    }, uses);
    assertEquals(await broken.choose(), ["quick tuned", "usual default"]);
    assertStringIncludes(broken.lines.at(-1) ?? "", "1 kernels keep their defaults: the driver crashed");
    const next = prepare(folder, {}, uses);
    assertEquals(await next.choose(), ["quick cached", "quick tuned"]);
  });
});

Deno.test("a new run records a variant for every shape; a resumed one keeps to the record, timing nothing", async () => {
  await withFolder(async (cacheFolder) => {
    const lines: string[] = [];
    const time = () => Promise.reject(new Error("nothing is to be timed"));
    const common = { config, adapter: adapter(), cacheFolder, time, log: (line: string) => lines.push(line) };
    const { uses } = await stepUses(config, adapter());
    const { recorded } = await settleKernels({ ...common, mode: "off" });
    assertEquals(recorded.adapter, "made-up adapter");
    assertEquals(Object.keys(recorded.choices).sort(), uses.map(({ key }) => key).sort());
    const next = await settleKernels({ ...common, adapter: adapter({ name: "other" }), recorded, mode: "on" });
    assertEquals(next.recorded, recorded);
    assert(next.kernels.every(({ source }) => source === "recorded"));

    const [first, ...rest] = Object.keys(recorded.choices);
    const fewer = Object.fromEntries(rest.map((key) => [key, recorded.choices[key]]));
    const filled = await settleKernels({ ...common, recorded: { ...recorded, choices: fewer } });
    assertEquals(filled.recorded.choices, recorded.choices);
    assertStringIncludes(lines.at(-1) ?? "", `1 of ${uses.length} shapes have no recorded kernel`);

    const choices = { ...recorded.choices, [first]: "gone" };
    const error = await assertRejects(
      () => settleKernels({ ...common, recorded: { ...recorded, choices } }),
      ConfigError,
    );
    assertStringIncludes(error.message, `1 of ${uses.length} do not run here, the first is "gone" for "${first}"`);
  });
});

Deno.test("kernelTable() has a row for each kernel and the sum of what was timed", () => {
  const table = kernelTable([
    { key: "work: 1", variant: "quick", usual: "usual", medianMs: 1, usualMs: 2, flops: 4e6, source: "tuned" },
    { key: "work: 22", variant: "usual", usual: "usual", flops: 1, source: "only" },
  ]);
  assertEquals(table.split("\n"), [
    "operation and shape  variant     ms  GFLOP/s  × default",
    "work: 1              quick    1.000      4.0       2.00  tuned",
    "work: 22             usual        –        –          –  only",
    "each once: 1.000 ms, by the defaults 2.000 ms",
  ]);
});

Deno.test("pickAdapter() takes Dawn where both show a GPU, Deno's own on software, and the part of a name", () => {
  const [cpu, dawnCpu] = [adapter({ name: "soft" }), adapter({ name: "soft", provider: "dawn" })];
  const [gpu, dawnGpu] = [
    adapter({ name: "Card", kind: "gpu" }),
    adapter({ name: "Card", kind: "gpu", provider: "dawn" }),
  ];
  assertEquals(pickAdapter([cpu, dawnCpu], {}), cpu);
  assertEquals(pickAdapter([gpu, cpu, dawnGpu, dawnCpu], {}), dawnGpu);
  assertEquals(pickAdapter([gpu, dawnCpu], {}), gpu);
  assertEquals(pickAdapter([dawnCpu], {}), dawnCpu);
  assertEquals(pickAdapter([gpu, cpu, dawnGpu], { adapter: "SOFT" }), cpu);
  assertEquals(pickAdapter([gpu, dawnGpu], { provider: "deno" }), gpu);
  assertEquals(pickAdapter([gpu], { provider: "dawn" }), undefined);
});

Deno.test("each adapter of a cluster's trainers is tuned for once", async () => {
  const [card, soft] = [adapter({ name: "Card", kind: "gpu" }), adapter({ name: "soft" })];
  const { cluster } = parseConfig({
    steps: 1,
    replicas: 3,
    cluster: { trainers: 3, adapters: [{ name: "soft" }, { name: "Card" }, { name: "oft" }] },
  }, { source: "the test" });
  const found = await trainerAdapters(cluster, { adapters: [card, soft], gpuEnvironment: { A: "b" } });
  assertEquals(found, [soft, card].map((seen) => ({ adapter: seen, environment: { A: "b" } })));
});

eachDevice("pickAdapter() takes the adapter that openDevice() opens", async (device) => {
  const { adapters } = await surveyAdapters();
  const { provider } = device.adapter;
  assertEquals(pickAdapter(adapters, { provider })?.name, device.adapter.name);
  const auto = await openDevice();
  const { adapter: opened } = auto;
  auto.destroy();
  const picked = pickAdapter(adapters, {});
  assertEquals([picked?.name, picked?.provider], [opened.name, opened.provider]);
});

eachDevice("tune() finds variants that agree for shapes of a tiny network", async (device) => {
  const { uses } = await stepUses(config, device.adapter);
  const { capabilities } = device.choices;
  const open = uses.filter((use) => candidatesOf(use, capabilities).candidates.length > 1);
  const some = [open[1], open.at(-1)].filter((use) => use !== undefined);
  const choices = await tune(some, {
    open: () => openDevice({ provider: device.adapter.provider }),
    now: () => performance.now(),
  });
  for (const [i, { key, variant, medianMs, skipped, complete }] of choices.entries()) {
    assertEquals(key, some[i].key);
    const { candidates, skipped: refused } = candidatesOf(some[i], capabilities);
    assert(candidates.some(({ name }) => name === variant));
    assertEquals(skipped.map((left) => left.variant), refused.map((left) => left.variant), "only refusals");
    assert(complete && medianMs !== undefined && medianMs > 0);
  }
});

eachDevice(
  "a child process times the kernels that it is asked for, and an abort ends it",
  async ({ adapter, choices }) => {
    const { uses } = await stepUses(config, adapter);
    const keys = uses.filter((use) => candidatesOf(use, choices.capabilities).candidates.length > 1).slice(0, 1)
      .map(({ key }) => key);
    const told: string[] = [];
    const common = { config, adapter, environment: {} };
    await timingProcess(common)(keys, ({ key }) => told.push(key));
    assertEquals(told, keys);
    const stopped = timingProcess({ ...common, signal: AbortSignal.timeout(50) });
    await assertRejects(() => stopped(uses.map(({ key }) => key), () => {}), Error, "interrupted");
  },
);
