/** Steps as transactions: prepared and committed, discarded and taken again, broken off, followed by others. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import type { Collective } from "../../collectives/collective.ts";
import type { Device } from "../../device/device.ts";
import { followTrainStep, type PreparedStep, prepareTrainStep, type ReplicaResult } from "../../swav/train_step.ts";
import { fingerprint, fingerprintHex } from "../../tensor/ops/fingerprint.ts";
import { freeTensors, readTensors, type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import {
  bitsOf,
  contextOf,
  freeTrainer,
  inputOf,
  makeTrainer,
  makeWorld,
  type Trainer,
  type Vector,
} from "./transaction.ts";

const STEPS = 4;
const LOCAL = [0, 1];

/** Prepares a step of a trainer that carries both replicas. */
function prepare(trainer: Trainer, step: number, world = makeWorld()): Promise<PreparedStep> {
  const inputs = LOCAL.map((replica) => inputOf(trainer, { step, replica }));
  return prepareTrainStep(inputs, { ...contextOf(trainer, { step, world }), share: undefined });
}

/** A run that never discards: what its steps reported, and the bits at its end. */
async function plainRun(device: Device): Promise<{ rows: Reported[]; bits: Map<string, number[]> }> {
  const trainer = makeTrainer(device);
  const rows: Reported[] = [];
  for (let step = 0; step < STEPS; step++) {
    const prepared = await prepare(trainer, step);
    prepared.commit();
    rows.push(reportOf(prepared));
  }
  const bits = await bitsOf(trainer);
  freeTrainer(trainer);
  return { rows, bits };
}

/** Waits until again so many bytes live: a step that broke off may have a readback under way, freed at its end. */
async function freedTo(live: number, device: Device): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (device.memory.liveBytes !== live && performance.now() < deadline) await delay(5);
  assertEquals(device.memory.liveBytes, live);
}

const sizeOf = (tensors: ReadonlyMap<string, Tensor>): number =>
  [...tensors.values()].reduce((bytes, { size }) => bytes + 4 * size, 0);

interface Reported {
  results: readonly ReplicaResult[];
  weights: string;
}

const reportOf = ({ results, weights }: PreparedStep): Reported => ({ results, weights });

eachDevice("a step that was discarded and taken again gives the bits of one that never was", async (device) => {
  const plain = await plainRun(device);
  assertMatch(plain.rows[0].weights, /^[0-9a-f]{32}$/);
  assertEquals(new Set(plain.rows.map(({ weights }) => weights)).size, STEPS);
  const trainer = makeTrainer(device);
  for (let step = 0; step < STEPS; step++) {
    const before = await bitsOf(trainer), live = device.memory.liveBytes;
    const first = await prepare(trainer, step);
    first.discard();
    first.discard();
    assertThrows(() => first.commit(), TypeError, "committed or discarded already");
    assertEquals(await bitsOf(trainer), before);
    assertEquals(device.memory.liveBytes, live);
    const second = await prepare(trainer, step);
    assertEquals([reportOf(first), reportOf(second)], [plain.rows[step], plain.rows[step]]);
    second.commit();
    second.discard();
    assertThrows(() => second.commit(), TypeError, "committed or discarded already");
  }
  assertEquals(await bitsOf(trainer), plain.bits);
  freeTrainer(trainer);
});

eachDevice(
  "a step that breaks off leaves everything as it was, and is taken again to the same bits",
  async (device) => {
    const plain = await plainRun(device);
    const trainer = makeTrainer(device);
    const sums = await countSums(trainer);
    const step = 2;
    for (let earlier = 0; earlier < step; earlier++) (await prepare(trainer, earlier)).commit();
    const before = await bitsOf(trainer), live = device.memory.liveBytes;
    // In the first exchange, amid the forward pass, at its end, and in the backward pass.
    for (const failing of [0, 3, Math.floor(sums / 2), sums - 1]) {
      const world = makeWorld();
      let calls = 0;
      // Replica 1 loses its peers; replica 0 would wait for ever.
      const broken: Collective = {
        size: 2,
        allReduce(key, values) {
          if (calls++ === failing) return Promise.reject(new Error("a trainer died"));
          return world.collectives[1].allReduce(key, values);
        },
      };
      const collectives = [world.collectives[0], broken];
      await assertRejects(() => prepare(trainer, step, { ...world, collectives }), Error, "a trainer died");
      assertEquals(await bitsOf(trainer), before, `exchange ${failing}`);
      assertEquals(device.memory.liveBytes, live, `exchange ${failing}`);
    }
    const died = () => Promise.reject(new Error("the coordinator died"));
    await assertRejects(() => prepare(trainer, step, { ...makeWorld(), assign: died }), Error, "the coordinator died");
    const alone = { size: 2, allReduce: died };
    await assertRejects(() => prepare(trainer, step, { ...makeWorld(), gradients: [alone, alone] }), Error, "died");
    const inputs = LOCAL.map((replica) => inputOf(trainer, { step, replica }));
    const context = contextOf(trainer, { step, world: { ...makeWorld(), share: died } });
    await assertRejects(() => prepareTrainStep(inputs, context), Error, "died");
    assertEquals(await bitsOf(trainer), before);
    await freedTo(live, device);
    for (let later = step; later < STEPS; later++) (await prepare(trainer, later)).commit();
    assertEquals(await bitsOf(trainer), plain.bits);
    freeTrainer(trainer);
  },
);

for (const mixed of [false, true]) {
  const how = mixed ? "with a loss scale that overflows at first" : "in f32";
  eachDevice(`two trainers and one that follows them keep the same bits ${how}`, async (device) => {
    const [first, second, follower] = [0, 1, 2].map(() => makeTrainer(device, { mixed }));
    const before = new Map(await bitsOf(first));
    for (let step = 0; step < STEPS; step++) {
      const world = makeWorld();
      const sums: ReadonlyMap<string, Vector>[] = [];
      const shared: (readonly Vector[])[] = [];
      const share = async (pieces: ReadonlyMap<number, Vector>) => {
        const all = await world.share(pieces);
        shared.push(all);
        return all;
      };
      const prepared = await Promise.all([first, second].map((trainer, replica) =>
        prepareTrainStep(
          [inputOf(trainer, { step, replica })],
          contextOf(trainer, { step, world: { ...world, share }, onSums: (given) => sums.push(given) }),
        )
      ));
      assertEquals(prepared[0].weights, prepared[1].weights);
      for (const each of prepared) each.commit();
      const shapes = new Map(follower.model.parameters.map(({ name, tensor }) => [name, tensor.shape]));
      await followTrainStep(contextOf(follower, { step, world }), {
        sums: new Map([...sums[0]].map(([name, sum]) => [name, tensorFrom(device, sum, shapes.get(name) ?? [])])),
        shared: shared[0],
      });
      const bits = await bitsOf(first);
      assertEquals(await bitsOf(second), bits, `second trainer, step ${step}`);
      assertEquals(await bitsOf(follower), bits, `follower, step ${step}`);
    }
    const end = await bitsOf(first);
    for (const name of ["trunk.stem.0.weight", "trunk.stem.1.running_var", "queue 1 1"]) {
      assertNotEquals(end.get(name), before.get(name), name);
    }
    if (mixed) assertNotEquals(first.lossScale?.skippedSteps, 0);
    for (const trainer of [first, second, follower]) freeTrainer(trainer);
  });
}

eachDevice("a step is followed only with the running statistics, and its sums are freed", async (device) => {
  const trainer = makeTrainer(device);
  const before = await bitsOf(trainer), live = device.memory.liveBytes;
  const sums = new Map([["prototypes.weight", tensorFrom(device, new Float32Array(42), [6, 7])]]);
  const context = contextOf(trainer, { step: 1, world: makeWorld() });
  await assertRejects(
    () => followTrainStep(context, { sums, shared: [new Float32Array(3)] }),
    RangeError,
    "replica 0's piece must hold",
  );
  assertEquals(await bitsOf(trainer), before);
  assertEquals(device.memory.liveBytes, live);
  freeTrainer(trainer);
});

/** How many sums replica 1 asks its group for in one step. */
async function countSums(trainer: Trainer): Promise<number> {
  const world = makeWorld();
  let calls = 0;
  const counted: Collective = {
    size: 2,
    allReduce(key, values) {
      calls++;
      return world.collectives[1].allReduce(key, values);
    },
  };
  const prepared = await prepare(trainer, 0, { ...world, collectives: [world.collectives[0], counted] });
  prepared.discard();
  return calls;
}

eachDevice("sums that come after their step has broken off are freed, and the trainer goes on", async (device) => {
  const plain = await plainRun(device);
  const trainer = makeTrainer(device);
  (await prepare(trainer, 0)).commit();
  const before = await bitsOf(trainer), live = device.memory.liveBytes;
  const context = contextOf(trainer, {
    step: 1,
    world: { ...makeWorld(), share: () => Promise.reject(new Error("the shard died")) },
  });
  const { promise: late, resolve: come } = Promise.withResolvers<void>();
  const { promise: summed, resolve: sum } = Promise.withResolvers<number>();
  const gradients: typeof context.gradients = {
    add: (...given) => context.gradients.add(...given),
    async finish() {
      const found = await context.gradients.finish();
      sum(sizeOf(found));
      await late;
      return found;
    },
  };
  const inputs = LOCAL.map((replica) => inputOf(trainer, { step: 1, replica }));
  await assertRejects(() => prepareTrainStep(inputs, { ...context, gradients }), Error, "the shard died");
  const held = await summed;
  assert(device.memory.liveBytes >= live + held, "the sums are there");
  come();
  await freedTo(live, device);
  assertEquals(await bitsOf(trainer), before);
  for (let step = 1; step < STEPS; step++) (await prepare(trainer, step)).commit();
  assertEquals(await bitsOf(trainer), plain.bits);
  freeTrainer(trainer);
});

eachDevice("a step's fingerprint is that of the weights before it, also of what its start changes", async (device) => {
  const trainer = makeTrainer(device);
  const names = trainer.model.parameters.map(({ name }) => name);
  for (let step = 0; step < 2; step++) {
    const numbers = fingerprint(trainer.model.parameters.map(({ tensor }) => tensor));
    const [values] = await readTensors([numbers]);
    freeTensors([numbers]);
    const prepared = await prepare(trainer, step);
    assertEquals(prepared.weights, fingerprintHex(names, values), `step ${step}`);
    prepared.commit();
  }
  freeTrainer(trainer);
});
