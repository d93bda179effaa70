import { assert, assertEquals, assertRejects } from "@std/assert";
import { EpochOver, RemotePeers } from "../../actors/engine/remote_peers.ts";
import { syncBehavior } from "../../actors/sync.ts";
import { treeSum } from "../../collectives/tree.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import { numbers } from "../kernels/run.ts";

const world = { low: 0, high: 7 };

/** Trainers that carry `ranges` of replicas and one sync shard between them; messages travel at once. */
function trainers(ranges: readonly (readonly [number, number])[]): { peers: RemotePeers[]; sent: Message[] } {
  const sync = syncBehavior();
  const [state] = sync.init();
  const sent: Message[] = [];
  const peers = ranges.map(([low, high], index): RemotePeers =>
    new RemotePeers({
      local: { low, high },
      epoch: 0,
      timeoutMs: 5_000,
      send(message) {
        sent.push(message);
        for (const effect of sync.handle(state, message, String(index))[1]) {
          if (effect.kind === "send") peers[Number(effect.to)].receive(effect.message);
        }
      },
    })
  );
  return { peers, sent };
}

Deno.test("a sum over replicas has the same bits whoever carries them, and a trainer sends whole nodes of the tree", async () => {
  const vectors = Array.from({ length: 7 }, (_, replica) => numbers(5, replica + 1).map((v) => v * 7 ** replica));
  const expected = treeSum(vectors);
  for (const ranges of [[[0, 7]], [[0, 3], [3, 7]], [[0, 1], [1, 5], [5, 7]]] as const) {
    const { peers, sent } = trainers(ranges);
    const sums = ranges.flatMap(([low, high], index) =>
      Array.from({ length: high - low }, (_, offset) => {
        const replica = high - 1 - offset;
        return peers[index].collective(replica, world).allReduce("k", vectors[replica].slice());
      })
    );
    for (const sum of await Promise.all(sums)) assertEquals(sum, expected);
    if (ranges.length === 1) assertEquals(sent, [], "a group that lives here sends nothing");
    else assert(sent.length < 7, `${sent.length} messages for 7 replicas`);
  }
});

Deno.test("sums of two groups under one key do not mix", async () => {
  const { peers } = trainers([[0, 4]]);
  const of = (replica: number, low: number) =>
    peers[0].collective(replica, { low, high: low + 2 }).allReduce("k", new Float32Array([replica]));
  const sums = await Promise.all([of(0, 0), of(2, 2), of(1, 0), of(3, 2)]);
  assertEquals(sums.map(([sum]) => sum), [1, 5, 1, 5]);
});

Deno.test("a wait for the others that runs late says for what and what to change", async () => {
  const peers = new RemotePeers({ local: { low: 0, high: 1 }, epoch: 0, timeoutMs: 5, send() {} });
  const sum = peers.collective(0, { low: 0, high: 2 }).allReduce("statistics/3/x", new Float32Array(1));
  await assertRejects(() => sum, Error, "the sum statistics/3/x@0 from the parameter sync took longer than 5 ms");
  const codes = peers.assign({ step: 3, replica: 0, batch: 1, rows: 1, scores: new Float32Array(1) });
  await assertRejects(() => codes, Error, "codes of step 3 from the Sinkhorn coordinator took longer than 5 ms");
});

Deno.test("a replica that contributes twice to one sum is refused", async () => {
  const peers = new RemotePeers({ local: { low: 0, high: 2 }, epoch: 0, timeoutMs: 5, send() {} });
  const collective = peers.collective(0, world);
  const first = collective.allReduce("k", new Float32Array(1));
  await assertRejects(() => collective.allReduce("k", new Float32Array(1)), RangeError, "Replica 0 contributes twice");
  await assertRejects(() => first, Error, "took longer");
});

Deno.test("observers get the sums of gradients and what replicas share; a trainer that is alone knows that they were told", async () => {
  const sync = syncBehavior();
  const [state] = sync.init();
  const told: string[] = [];
  const peers = new RemotePeers({
    local: { low: 0, high: 2 },
    epoch: 0,
    timeoutMs: 5_000,
    send(message) {
      // As a link to another thread does: what is sent is gone from here.
      const transfer = message.type === "contribute" ? [message.values.bytes.buffer] : [];
      for (const effect of sync.handle(state, structuredClone(message, { transfer }), "alone")[1]) {
        if (effect.kind !== "send" || effect.message.type !== "reduced") continue;
        if (effect.to === "alone") peers.receive(effect.message);
        else told.push(`${effect.to} ${effect.message.key} ${f32FromWire(effect.message.values).join()}`);
      }
    },
  });
  peers.observers = [{ id: "trainer-7", attempt: 3 }];
  const sum = (key: string) =>
    Promise.all(
      [0, 1].map((replica) =>
        peers.collective(replica, { low: 0, high: 2 }).allReduce(key, Float32Array.of(replica + 1))
      ),
    );
  assertEquals(await sum("gradient/3/0"), [Float32Array.of(3), Float32Array.of(3)]);
  assertEquals(
    await peers.join("shared/3@0", [Float32Array.of(1, 2), Float32Array.of(3)], 2),
    Float32Array.of(1, 2, 3),
  );
  assertEquals(await sum("statistics/3/x"), [Float32Array.of(3), Float32Array.of(3)]);
  assertEquals(told, ["trainer-7 gradient/3/0@0 3", "trainer-7 shared/3@0 1,2,3"]);
});

Deno.test("when an epoch ends all waits of its step end, and what comes of it later is not heard", async () => {
  const peers = new RemotePeers({ local: { low: 0, high: 1 }, epoch: 1, timeoutMs: 5_000, send() {} });
  const group = { low: 0, high: 2 };
  const waits = [
    peers.collective(0, group).allReduce("gradient/0/0", new Float32Array(1)),
    peers.assign({ step: 0, replica: 0, batch: 1, rows: 1, scores: new Float32Array(1) }),
    peers.join("shared/0@0", [new Float32Array(1)], 2),
  ];
  const values = toWire(new Float32Array(1));
  assert(peers.receive({ type: "reduced", epoch: 2, key: "gradient/0/0@0", values }), "another epoch's is swallowed");
  peers.end("epoch 2 begins");
  for (const wait of waits) await assertRejects(() => wait, EpochOver, "epoch 2 begins");
  await assertRejects(() => peers.collective(0, group).allReduce("x", new Float32Array(1)), EpochOver);
});
