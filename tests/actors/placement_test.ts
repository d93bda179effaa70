import { assert, assertEquals, assertThrows } from "@std/assert";
import { permissionsOf } from "../../actors/permissions.ts";
import { mathsDigest } from "../../actors/run_identity.ts";
import { placeActors, seatReplicas, trainerIds } from "../../actors/seats.ts";
import { learningRateAt, mergeReports, nextPlateau, type StepDone } from "../../actors/step_record.ts";
import { findPreset, parseConfig, type TrainConfigInput } from "../../config.ts";
import { PLATEAU_START } from "../../optim/schedule.ts";

const configOf = (changes: TrainConfigInput = {}) =>
  parseConfig({ ...findPreset("test-tiny"), ...changes }, { source: "the test" });

Deno.test("replicas are seated in contiguous ranges whose sizes differ by at most one", () => {
  for (const [replicas, trainers] of [[4, 1], [7, 3], [512, 96], [5, 5]]) {
    const seats = seatReplicas(replicas, trainerIds(trainers));
    assertEquals([seats[0].low, seats[seats.length - 1].high, seats.length], [0, replicas, trainers]);
    for (let i = 1; i < trainers; i++) assertEquals(seats[i].low, seats[i - 1].high);
    const sizes = seats.map(({ low, high }) => high - low);
    assert(Math.max(...sizes) - Math.min(...sizes) <= 1 && Math.min(...sizes) >= 1);
  }
  assertThrows(() => seatReplicas(2, trainerIds(3)), RangeError, "set cluster.trainers to 1…2");
});

Deno.test("trainers and shards go to hosts in turn, the single actors to the first", () => {
  const places = placeActors(["a", "b"], { trainers: 3, shards: 2 });
  assertEquals(
    placeActors(["a", "b"], { trainers: 3, shards: 2, method: "simclr" }),
    places.filter(({ role }) => role !== "sinkhorn"),
  );
  assertEquals(
    places.map(({ id, host }) => `${id}@${host}`).join(" "),
    "checkpointer@a loader-0@a sinkhorn@a sync-0@a sync-1@b trainer-0@a trainer-1@b trainer-2@a",
  );
});

Deno.test("each role gets the permissions it needs and no more", () => {
  const grants = { addresses: ["127.0.0.1"], dataFolder: "/d", runFolder: "/r", codeFolder: "/c", dawn: false };
  const net = "--allow-net=127.0.0.1";
  assertEquals(permissionsOf("sync", grants), [net]);
  assertEquals(permissionsOf("sinkhorn", grants), [net]);
  assertEquals(permissionsOf("trainer", grants), [net, "--allow-read=/c"]);
  const noSecret = ["--deny-read=/r/join.secret", "--deny-write=/r/join.secret"];
  assertEquals(permissionsOf("checkpointer", grants), [net, "--allow-read=/r", "--allow-write=/r", ...noSecret]);
  assertEquals(permissionsOf("checkpointer", { ...grants, runFolder: undefined }), [net]);
  for (const flag of permissionsOf("evaluator", grants)) assert(!/^--allow-(write|run)|^-A/.test(flag), flag);
  assert(!permissionsOf("loader", grants).some((flag) => flag.startsWith("--allow-write") || flag === "-A"));
  assertEquals(permissionsOf("sync", { ...grants, addresses: [] }), ["--allow-net"]);
  assertThrows(() => permissionsOf("host", grants), TypeError, 'role "host"');
});

Deno.test("the run's digest changes with what decides the weights and with nothing else", () => {
  const tiny = findPreset("test-tiny");
  const digest = mathsDigest(configOf());
  for (
    const same of [
      { cluster: { trainers: 3, syncShards: 2 } },
      { checkpoint: { everySteps: 7, keep: 1 } },
      { run: { folder: "/elsewhere", name: "other" } },
      { data: { ...tiny.data, folder: "/moved" } },
      { probe: { protocols: ["knn" as const], everySteps: 7 } },
    ]
  ) assertEquals(mathsDigest(configOf(same)), digest, JSON.stringify(same));
  for (
    const other of [{ seed: 1 }, { replicas: 2 }, { steps: 9 }, { data: { ...tiny.data, sideMax: 31 } }, {
      precision: "mixed" as const,
    }]
  ) {
    assert(mathsDigest(configOf(other)) !== digest, JSON.stringify(other));
  }
});

Deno.test("learning rates follow the schedule: cosine after a warm-up, constant, halved on a plateau", () => {
  const schedule = { learningRate: 2, warmupSteps: 2, warmupStart: 1, endFactor: 0.1 };
  const rates = (name: "cosine" | "constant" | "plateau", factor = 1) => {
    const config = configOf({ schedule: { name, ...schedule } });
    const run = { steps: 6, plateau: { ...PLATEAU_START, factor } };
    return [0, 1, 2, 5].map((step) => Number(learningRateAt(config, step, run).toFixed(6)));
  };
  const cosine = (step: number) => Number((0.2 + 0.9 * (1 + Math.cos(Math.PI * step / 6))).toFixed(6));
  assertEquals(rates("cosine"), [1, 1.5, cosine(2), cosine(5)]);
  assertEquals(rates("constant"), [1, 1.5, 2, 2]);
  assertEquals(rates("plateau", 0.5), [0.5, 0.75, 1, 1]);
});

Deno.test("the plateau's memory survives a checkpoint", () => {
  const config = configOf({ schedule: { name: "plateau", learningRate: 1, plateau: { window: 1, patience: 2 } } });
  let state = PLATEAU_START;
  for (const loss of [3, 2, 2, 2, 2]) {
    state = nextPlateau.parse(JSON.parse(JSON.stringify({ plateau: nextPlateau.after(config, state, loss) })));
  }
  assertEquals([state.factor, state.best], [0.5, 2]);
  assertEquals(nextPlateau.parse({}), PLATEAU_START);
  assertEquals(nextPlateau.after(configOf(), state, 1), state);
});

Deno.test("the record of a step is the same in whatever order the trainers report", () => {
  const report = (replica: number, loss: number, ms: number): StepDone => ({
    type: "prepared",
    epoch: 0,
    weights: "same",
    step: 5,
    replicas: [{ replica, loss, embeddingDeviation: 0.1 * replica }],
    dataMs: ms,
    computeMs: 2 * ms,
    syncMs: 3 * ms,
    deviceBytes: 100 * ms,
  });
  const reports = [report(0, 0.1, 1), report(1, 0.2, 4), report(2, 0.7, 2)];
  const step = { config: configOf(), learningRate: 1, perplexity: 3, stepsPerEpoch: 2, stepMs: 500, elapsedMs: 9 };
  const record = mergeReports(reports, step);
  assertEquals(mergeReports([...reports].reverse(), step), record);
  assertEquals([record.epoch, record.dataMs, record.syncMs, record.deviceBytes], [2, 4, 12, 400]);
  assertEquals([record.imagesPerSecond, record.loss], [24, (0.1 + 0.2 + 0.7) / 3]);
});
