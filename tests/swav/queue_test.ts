import { assertEquals } from "@std/assert";
import { buildSwavModel } from "../../swav/model.ts";
import { EmbeddingQueue } from "../../swav/queue.ts";
import { freeTensors, readTensors } from "../../tensor/tensor.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers } from "../kernels/run.ts";

const shape = { assignCrops: 2, length: 6, dim: 5 };

eachDevice("the queue keeps the newest embeddings of each assign crop and is used once it is full", async (device) => {
  const model = buildSwavModel(device, {
    trunk: { stemWidth: 4, widths: [4], depths: [1], groupWidth: 4 },
    headDims: [5],
    headBatchNorm: false,
    prototypes: 7,
    seed: 1,
  });
  const queue = new EmbeddingQueue(device, shape);
  const pushed: Float32Array[] = [];
  for (let step = 0; step < 4; step++) {
    const scores = queue.scores(model.prototypes);
    assertEquals([queue.full, scores.length], step === 3 ? [true, 2] : [false, 0]);
    freeTensors(scores);
    const values = numbers(2 * 2 * 5, step + 1);
    pushed.push(values);
    queue.push(values);
  }
  // Step 3 took the place of step 0.
  const { rings, written } = await queue.state();
  assertEquals(written, 8);
  for (const index of [0, 1]) {
    const expected = [3, 1, 2].flatMap((step) => [...pushed[step].subarray(index * 10, index * 10 + 10)]);
    assertEquals([...rings[index]], expected);
  }
  const [weights] = await readTensors([model.prototypes.weight.tensor]);
  const scores = queue.scores(model.prototypes);
  const [, second] = await readTensors(scores);
  const product = Float32Array.from({ length: 6 * 7 }, (_, i) => {
    let sum = 0;
    for (let d = 0; d < 5; d++) sum += rings[1][Math.floor(i / 7) * 5 + d] * weights[d * 7 + i % 7];
    return sum;
  });
  assertClose(second, product, { bound: 1e-6, what: "scores" });
  freeTensors(scores);
  freeTensors([...model.parameters, ...model.buffers].map(({ tensor }) => tensor));
});

eachDevice("a queue that was saved and loaded goes on at the same row", async (device) => {
  const [first, second] = [new EmbeddingQueue(device, shape), new EmbeddingQueue(device, shape)];
  const pushTo = (queue: EmbeddingQueue, seed: number) => queue.push(numbers(20, seed));
  for (const seed of [1, 2, 3, 4]) pushTo(first, seed);
  const saved = await first.state();
  second.load({ rings: saved.rings.map((ring) => ring.slice()), written: saved.written });
  for (const queue of [first, second]) pushTo(queue, 5);
  const [a, b] = [await first.state(), await second.state()];
  assertEquals([b.written, b.rings], [a.written, a.rings]);
});
