/**
 * Where a training step's time goes: the quickstart's network forward and backward for one replica, kernel by kernel.
 * `deno run -A bench/step.ts [--provider deno|dawn] [--steps 5]`. Shares are measured with a readback after every
 * dispatch, whose fixed cost is subtracted; the total is measured without.
 */
import { parseArgs } from "@std/cli/parse-args";
import type { Device, Provider } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { familyOf, trafficOf } from "../device/traffic.ts";
import { projectionHead, prototypes } from "../nn/heads.ts";
import { regnetY } from "../nn/regnet.ts";
import { adamw } from "../optim/adamw.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { softmaxCrossEntropy } from "../tensor/ops/softmax_cross_entropy.ts";
import { Tape } from "../tensor/tape.ts";
import { readTensors, type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { kernelTimes } from "./kernel_times.ts";

const BATCH = 16, PROTOTYPES = 100;
const CROPS = [{ count: 2, size: 48 }, { count: 2, size: 24 }];

/** A step of one replica as the quickstart takes it, with targets that stay. */
export function stepOf(device: Device): () => Promise<void> {
  const spec = { stemWidth: 16, widths: [32, 64, 128], depths: [1, 1, 1], groupWidth: 8 };
  const trunk = regnetY(spec, { device, seed: 1, prefix: "trunk." });
  const head = projectionHead({ device, seed: 1, prefix: "head.", dims: [128, 256, 64], batchNorm: true });
  const scorer = prototypes({ device, seed: 1, prefix: "prototypes.", dim: 64, count: PROTOTYPES });
  const parameters = [...trunk.parameters(), ...head.parameters(), ...scorer.parameters()];
  const noise = (count: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 12.9898) * 2);
  const views = CROPS.map(({ count, size }) =>
    tensorFrom(device, noise(count * BATCH * size * size * 3), [count * BATCH, size, size, 3])
  );
  const rows = CROPS.reduce((sum, { count }) => sum + count * BATCH, 0);
  const targets = tensorFrom(device, new Float32Array(rows * PROTOTYPES).fill(1 / PROTOTYPES), [rows, PROTOTYPES]);
  const optimizer = adamw();
  return async () => {
    const tape = new Tape(device, { gradients: true });
    const context = { tape, training: true, updateStatistics: true };
    const features: Tensor[] = [];
    for (const [i, view] of views.entries()) {
      features.push(await trunk.forward(view, { ...context, pass: `crops ${i}` }));
    }
    const projected = await head.forward(concatRows(tape, features), { ...context, pass: "head" });
    const scores = scorer.apply(l2Normalize(tape, projected), context);
    const losses = softmaxCrossEntropy(tape, { scores, targets }, { temperature: 0.1 });
    const gradients = await tape.backward(losses, { keep: [losses] });
    const byName = new Map(parameters.flatMap(({ name, tensor }) => {
      const gradient = gradients.get(tensor);
      return gradient ? [[name, gradient] as const] : [];
    }));
    optimizer.step(parameters, byName, 0.002);
    await readTensors([losses]);
    tape.dispose();
  };
}

/** Milliseconds that `action` takes. */
async function timed(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

if (import.meta.main) {
  const { provider, steps, top } = parseArgs(Deno.args, { string: ["provider"], default: { steps: 5, top: 40 } });
  const device = await openDevice({ provider: (provider ?? "auto") as Provider | "auto" });
  const step = stepOf(device);
  const first = await timed(step);
  const times: number[] = [];
  for (let i = 0; i < Number(steps); i++) times.push(await timed(step));
  times.sort((a, b) => a - b);
  console.log(
    `${device.adapter.name} [${device.adapter.provider}]: step ${
      times[Math.floor(times.length / 2)].toFixed(0)
    } ms, first ${first.toFixed(0)} ms, peak memory ${(device.memory.peakBytes / 2 ** 20).toFixed(0)} MiB`,
  );
  const moved = await trafficOf(
    { adapter: device.adapter, choices: device.choices.toJSON() },
    (counting) => stepOf(counting)(),
  );
  console.log(
    `${(moved.boundBytes / 1e6).toFixed(0)} MB bound by ${moved.launches} launches, ` +
      `${(moved.boundBytes / moved.idealBytes).toFixed(2)} times the ideal ${(moved.idealBytes / 1e6).toFixed(0)} MB`,
  );
  const shares = await kernelTimes(device, step);
  const total = shares.reduce((sum, { ms }) => sum + ms, 0);
  const calls = shares.reduce((sum, share) => sum + share.calls, 0);
  console.log(`${calls} dispatches, ${total.toFixed(0)} ms one at a time`);
  const families = new Map<string, number>();
  for (const { label, ms } of shares) families.set(familyOf(label), (families.get(familyOf(label)) ?? 0) + ms);
  for (const [family, ms] of [...families].sort((a, b) => b[1] - a[1])) {
    console.log(`${ms.toFixed(1).padStart(8)} ms ${(100 * ms / total).toFixed(1).padStart(5)}%  ${family}`);
  }
  console.log("");
  for (const { label, ms, calls } of shares.slice(0, Number(top))) {
    console.log(`${ms.toFixed(2).padStart(8)} ms  ${calls}×  ${label}`);
  }
  device.destroy();
}
