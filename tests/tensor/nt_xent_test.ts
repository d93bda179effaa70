import { assertEquals, assertThrows } from "@std/assert";
import { l2Normalize } from "../../tensor/ops/l2_normalize.ts";
import { ntXent, ntXentForward } from "../../tensor/ops/nt_xent.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import golden from "../golden/simclr.json" with { type: "json" };
import { eachDevice } from "../devices.ts";
import { assertClose } from "../kernels/run.ts";

/** Rows of `own` numbers each, those of replica `first` in front. */
function turned(parts: readonly Float32Array[], first: number): Float32Array<ArrayBuffer> {
  return Float32Array.from([...parts.slice(first), ...parts.slice(0, first)].flatMap((part) => [...part]));
}

eachDevice("two replicas that know each other's rows get torch's NT-Xent and its gradient", async (device) => {
  const before = device.memory.liveBytes;
  const { replicas, images, dim, temperature } = golden;
  const rows = 2 * images, all = replicas * rows;
  const heads = Array.from({ length: replicas }, (_, replica) => {
    const values = Float32Array.from(golden.x.slice(replica * rows * dim, (replica + 1) * rows * dim));
    return tensorFrom(device, values, [rows, dim], { requiresGradient: true });
  });
  const tapes = heads.map(() => new Tape(device, { gradients: true }));
  const embeddings = heads.map((head, replica) => l2Normalize(tapes[replica], head));
  const values = await readTensors(embeddings);
  const forwards = tapes.map((tape, replica) => {
    const world = tape.adopt(tensorFrom(device, turned(values, replica), [all, dim]));
    return ntXentForward(tape, { embeddings: embeddings[replica], world }, { temperature, scale: 1 / all });
  });
  const logSums = (await readTensors(forwards.map((forward) => forward.logSums))).map((part) => part.slice());
  for (const [replica, tape] of tapes.entries()) {
    const worldLogSums = tape.adopt(tensorFrom(device, turned(logSums, replica), [all]));
    const losses = ntXent(tape, forwards[replica], worldLogSums);
    // As with a loss scale: the gradient from above is no longer one.
    const above = replica === 0 ? undefined : tape.adopt(tensorFrom(device, new Float32Array(rows).fill(8), [rows]));
    const found = await tape.backward(losses, { keep: [losses], gradient: above });
    const [lossValues, gradient] = await readTensors([losses, found.get(heads[replica]) ?? losses]);
    const own = (numbers: readonly number[], size: number) => numbers.slice(replica * size, (replica + 1) * size);
    const expected = own(golden.losses, rows).map((loss) => loss / all);
    assertClose(lossValues, expected, { bound: 1e-6, what: `losses of replica ${replica}` });
    const factor = above === undefined ? 1 : 8;
    const gradients = own(golden.gradient, rows * dim).map((value) => factor * value);
    assertClose(gradient, gradients, { bound: 1e-5, what: `gradient of replica ${replica}` });
    tape.dispose();
  }
  freeTensors(heads);
  assertEquals(device.memory.liveBytes, before);
});

eachDevice("rows without a pair, and a world smaller than the replica, are refused", async (device) => {
  const tape = new Tape(device, { gradients: true });
  const three = tape.allocate([3, 2]), four = tape.allocate([4, 2]), two = tape.allocate([2, 2]);
  const options = { temperature: 1, scale: 1 };
  for (const [embeddings, world] of [[three, four], [four, two]]) {
    assertThrows(() => ntXentForward(tape, { embeddings, world }, options), RangeError, "pairs of rows");
  }
  tape.dispose();
  await Promise.resolve();
});
