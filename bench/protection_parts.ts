/**
 * What the parts of protection cost, each timed by itself in turns with a whole step, because its share is below the step's
 * own spread: fingerprint of the weights, copies that undo a step, running statistics fetched and shared with the other
 * trainers, the line of the commit log, checks of messages.
 */
import type { CommitRecord } from "../actors/events.ts";
import { buildMethod } from "../actors/engine/method.ts";
import { syncBehavior } from "../actors/sync.ts";
import { runPolicy } from "../actors/who_may_send.ts";
import { RemotePeers } from "../actors/engine/remote_peers.ts";
import { fingerprint } from "../tensor/ops/fingerprint.ts";
import { freeTensors, readTensors, zeros } from "../tensor/tensor.ts";
import { Undo } from "../tensor/undo.ts";
import { admission } from "../wire/admission.ts";
import type { TrainConfig } from "../config.ts";
import type { Device } from "../device/device.ts";
import type { Link } from "../wire/link.ts";
import { connectSocket, listen } from "../wire/socket_link.ts";
import type { Entry } from "./report.ts";
import { benchRunFiles } from "./run_files.ts";
import { SAMPLES_MIN, summarize } from "./statistics.ts";
import { openStep } from "./training_step.ts";

/** Calls of a part in one sample. */
const REPEATS = 20;
/** Messages that a trainer sends and gets in a step of this network: SyncBN's of two crop sizes, slices, batches, codes. */
const MESSAGES = 600;

async function perCall(
  action: () => Promise<void> | void,
  calls: number,
  last: () => Promise<void> | void = () => {},
): Promise<number> {
  const start = performance.now();
  for (let i = 0; i < calls; i++) await action();
  await last();
  return (performance.now() - start) / calls;
}

/** A sum of `size` numbers through a sync shard over a WebSocket, both ways, as a trainer that is one of two waits for it. */
async function openExchange(size: number): Promise<{ take(): Promise<void>; close(): Promise<void> }> {
  const sync = syncBehavior(), [state] = sync.init();
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "sync-0", token: "bench" }, accepted.resolve);
  const link = await connectSocket(listener.url, { id: "trainer-0", token: "bench" });
  const shard = await accepted.promise;
  shard.onMessage = (message) => {
    for (const effect of sync.handle(state, message, "trainer-0")[1]) {
      if (effect.kind === "send") shard.send(effect.message);
    }
  };
  const [own, other] = [0, 1].map((low) =>
    new RemotePeers({
      local: { low, high: low + 1 },
      epoch: 0,
      timeoutMs: 10_000,
      send: (message) => low === 0 ? link.send(message) : void sync.handle(state, message, "trainer-0"),
    })
  );
  link.onMessage = (message) => own.receive(message);
  let step = 0;
  return {
    async take() {
      const key = `shared/${step++}@0`;
      // What the other trainer gives is there already.
      other.join(key, [new Float32Array(0)], 2).catch(() => {});
      const whole = await own.join(key, [new Float32Array(size)], 2);
      if (whole.length !== size) throw new Error("the exchange gave something else");
    },
    async close() {
      link.close("done");
      await listener.close();
    },
  };
}

/** Entries of the whole step, of each part, and of a read alone, which is none. */
export async function partEntries(device: Device, config: TrainConfig): Promise<Entry[]> {
  const step = openStep(device, config);
  const { model } = buildMethod(device, config);
  const weights = model.parameters.map(({ tensor }) => tensor);
  const statistics = model.buffers.map(({ tensor }) => tensor);
  const one = zeros(device, [1]);
  const size = statistics.reduce((sum, tensor) => sum + tensor.size, 0);
  const exchange = await openExchange(size);
  const { files, remove } = await benchRunFiles(config);
  const record: CommitRecord = {
    step: 100,
    epoch: 3,
    weights: "0".repeat(32),
    samples: { epoch: 1, first: 4096, count: 8192 },
    trainers: 512,
    run: { steps: 10_000, stepsPerEpoch: 100, images: 1_000_000, plateau: { factor: 1 } },
  };
  const admit = admission(runPolicy, { peer: "trainer-0", own: "sync-0", now: () => performance.now() });

  const wait = async () => void await readTensors([one]);
  // What the device does is timed many times over with one wait at the end, whose share is so counted too.
  const parts: Record<string, { calls: number; run: () => Promise<void> | void; last?: typeof wait; less?: string }> = {
    "read of one number": { calls: REPEATS, run: wait },
    "fingerprint of the weights": {
      calls: REPEATS,
      run: () => freeTensors([fingerprint(weights)]),
      last: wait,
    },
    "copies that undo": {
      calls: REPEATS,
      run() {
        const undo = new Undo();
        undo.keep(statistics);
        undo.drop();
      },
      last: wait,
    },
    // In a step they come with a read that is there anyway.
    "statistics fetched": {
      calls: REPEATS,
      less: "read of one number",
      run: async () => void await readTensors([one, ...statistics]),
    },
    "statistics shared": { calls: REPEATS, run: () => exchange.take() },
    "line of the commit log": { calls: 500, run: () => files.record({ kind: "commit", record }) },
    [`checks of ${MESSAGES} messages`]: {
      calls: 20,
      run() {
        for (let i = 0; i < MESSAGES; i++) admit("contribute", 4096);
      },
    },
  };
  await step.take();
  for (const { run } of Object.values(parts)) await run();
  const samples = new Map<string, number[]>();
  const note = (name: string, ms: number) => samples.set(name, [...samples.get(name) ?? [], ms]);
  for (let round = 0; round < SAMPLES_MIN; round++) {
    note("step", await perCall(async () => void await step.take(), 1));
    for (const [name, { calls, run, last, less }] of Object.entries(parts)) {
      const ms = await perCall(run, calls, last);
      note(name, less === undefined ? ms : ms - (samples.get(less)?.at(-1) ?? 0));
    }
  }
  await exchange.close();
  await remove();

  const common = { suite: "protection", arm: "ours", unit: "ms", better: "lower", error: null } as const;
  return [...samples].map(([name, times]) => ({ ...common, name, ...summarize(times) }));
}
