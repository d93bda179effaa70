import { assertEquals, assertMatch, assertRejects, assertStringIncludes } from "@std/assert";
import { RunFiles } from "../../actors/run_files.ts";
import type { RunEvent, RunStatus } from "../../actors/events.ts";
import { postmortem, readStanding, standingText } from "../../api/diagnosis.ts";
import { ConfigError } from "../../config.ts";

const digest = "d".repeat(64);
const lost = {
  actor: "trainer-1",
  host: "host-0",
  error: "its process ended with exit code 137\nstack",
  lines: ["last"],
};
const status: RunStatus = {
  phase: "training",
  attempt: 1,
  epoch: 1,
  step: 7,
  steps: 10,
  savedStep: 6,
  waitsFor: ["trainer-1"],
  actors: [
    {
      id: "trainer-0",
      role: "trainer",
      host: "host-0",
      pid: 12,
      attempt: 0,
      state: "ready",
      step: 7,
      lastHeardMs: 400,
    },
    {
      id: "trainer-1",
      role: "trainer",
      host: "host-b",
      pid: null,
      attempt: 1,
      state: "starting",
      step: null,
      lastHeardMs: null,
    },
  ],
};
const record = {
  step: 0,
  epoch: 0,
  loss: 2.5,
  lossOverLnK: 1,
  learningRate: 0.1,
  imagesPerSecond: 20,
  dataMs: 1,
  computeMs: 1,
  syncMs: 1,
  prototypePerplexity: 5,
  embeddingDeviation: 0.1,
  deviceBytes: 1,
  elapsedMs: 1,
};
const happened: RunEvent[] = [
  { kind: "host-joined", host: "host-0", adapters: ["a GPU"] },
  { kind: "log", actor: "trainer-1", lines: ["first life"] },
  { kind: "step", record, steps: 10 },
  { kind: "saved", step: 2, folder: "/2", digest },
  { kind: "saved", step: 4, folder: "/4", digest },
  { kind: "status", status },
  { kind: "restarting", failure: lost, restart: 1, restartsMax: 5, delayMs: 0 },
  { kind: "log", actor: "trainer-1", lines: ["second life"] },
  { kind: "resumed", step: 4, notes: [] },
  { kind: "saved", step: 6, folder: "/6", digest },
];

/** A run's folder in which `events` have happened. */
async function withRun(events: readonly RunEvent[], test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "diagnosis-" });
  try {
    const files = new RunFiles(folder, {
      run: "run",
      createdAt: new Date().toISOString(),
      config: {},
      versions: {},
      arguments: [],
      seed: 3,
      adapters: { "trainer-0": "llvmpipe" },
    });
    for (const event of events) files.record(event);
    files.close();
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("a status names whom the run waits for and lists every actor; an old one without an end means that nobody is left", async () => {
  await withRun(happened, async (folder) => {
    const standing = await readStanding(folder, new Date());
    assertEquals([standing.run, standing.step, standing.attempt], ["running", 7, 1]);
    const text = standingText(standing);
    assertStringIncludes(text, "waits for trainer-1");
    assertMatch(text, /trainer-0 +trainer +host-0 +12 +0 +ready +7 +0\.4 s ago/);
    assertMatch(text, /trainer-1 +trainer +host-b +- +1 +starting +- +-/);
    assertEquals((await readStanding(folder, new Date(Date.now() + 60_000))).run, "gone");
  });
});

Deno.test("a status of a run that has ended says how", async () => {
  const ends: [RunEvent, string][] = [
    [{ kind: "ended", outcome: "finished", step: 10, digest, folder: "/10" }, "finished"],
    [{ kind: "ended", outcome: "interrupted", step: 8, digest, folder: "/8" }, "interrupted"],
    [{ kind: "failed", failure: lost }, "failed"],
  ];
  for (const [end, expected] of ends) {
    await withRun([...happened, end], async (folder) => {
      assertEquals((await readStanding(folder, new Date(Date.now() + 60_000))).run, expected);
    });
  }
});

Deno.test("a postmortem tells what happened in order, checkpoints in one line, and how to go on", async () => {
  await withRun([...happened, { kind: "failed", failure: lost }], async (folder) => {
    const page = await postmortem(folder);
    const order = [
      "run run, begun",
      "trainer-0: llvmpipe",
      "host-0 joined: a GPU",
      "2 checkpoints, before steps 2 to 4",
      "LOST trainer-1 on host-0: its process ended with exit code 137; restart 1 of 5",
      "goes on before step 4",
      "checkpoint before step 6",
      "FAILED trainer-1 on host-0: its process ended with exit code 137",
      "steps 0 to 0: loss 2.5000 to 2.5000, median 20.0 images/s",
      "last lines of trainer-1:\n  last",
      `go on: deno task pretrain --resume ${folder}`,
    ];
    let at = 0;
    for (const text of order) {
      const found = page.indexOf(text, at);
      assertEquals(found >= at, true, `"${text}" is not where it should be in\n${page}`);
      at = found + text.length;
    }
  });
});

Deno.test("an actor's log survives its restarts, and a line tells its lives apart", async () => {
  await withRun(happened, async (folder) => {
    const log = await Deno.readTextFile(`${folder}/logs/trainer-1.log`);
    assertMatch(
      log,
      /^first life\n--- .* restart: lost trainer-1: its process ended with exit code 137 ---\nsecond life\n$/,
    );
  });
});

Deno.test("a run whose last note is torn can be read, and a folder that holds no run is refused with the remedy", async () => {
  await withRun(happened, async (folder) => {
    await Deno.writeTextFile(`${folder}/events.jsonl`, '{"at":"2026', { append: true });
    assertStringIncludes(await postmortem(folder), "has not told its end");
  });
  const empty = await Deno.makeTempDir();
  for (const read of [() => postmortem(empty), () => readStanding(empty, new Date())]) {
    await assertRejects(read, ConfigError, "name the folder of a run that has started");
  }
  await Deno.remove(empty);
});
