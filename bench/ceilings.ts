/**
 * The device's own bounds, beside which rates of kernels are read: multiplications in vector units, in matrix units where
 * there are any, and copying. Each result is checked exactly. `deno task bench ceilings [--part FILE]`.
 */
import type { Device, DeviceBuffer } from "../device/device.ts";
import { type Ceiling, copyCeiling, fmaCeiling, matrixCeiling } from "../kernels/ceilings.ts";
import type { Entry } from "./report.ts";
import { SAMPLES_MIN, summarize } from "./statistics.ts";
import { finish, openForSuite, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

interface Named {
  readonly name: string;
  readonly ceiling: Ceiling;
  readonly iterations: number;
}

/** The ceilings that the device can be asked for. */
function ceilingsOf({ adapter }: Device): Named[] {
  const cpu = adapter.kind === "cpu";
  const workgroups = cpu ? 64 : 4096, iterations = 2000;
  const half = adapter.features.includes("f16");
  const byteLength = Math.min(cpu ? 2 ** 26 : 2 ** 28, adapter.limits.bindingBytesMax);
  return [
    { name: "f32 fma", ceiling: fmaCeiling({ storage: "f32", workgroups }), iterations },
    ...(half ? [{ name: "f16 fma", ceiling: fmaCeiling({ storage: "f16", workgroups }), iterations }] : []),
    ...adapter.matrices.flatMap((configuration) => {
      const { m, n, k, component, result } = configuration;
      const [subgroupSize] = adapter.subgroupSizes;
      const ceiling = matrixCeiling({ configuration, subgroupSize, workgroups });
      return [{ name: `matrix ${m}x${n}x${k} ${component} to ${result}`, ceiling, iterations: 100 }];
    }),
    { name: `copy of ${byteLength / 2 ** 20} MiB`, ceiling: copyCeiling({ byteLength }), iterations: 1 },
  ];
}

async function measure(device: Device, { name, ceiling, iterations }: Named): Promise<Entry> {
  const inputs = ceiling.inputs(iterations).map((data) => device.upload(data));
  const output = device.allocate(ceiling.outputBytes);
  const bound: DeviceBuffer[] = [...inputs, output];
  const once = async (repeats: number) => {
    const start = performance.now();
    for (let i = 0; i < repeats; i++) device.run(ceiling.kernel, bound);
    await device.read([{ buffer: output, byteLength: 4 }]);
    return performance.now() - start;
  };
  await once(1);
  const [bytes] = await device.read([{ buffer: output }]);
  const expected = ceiling.expected(iterations);
  const half = ceiling.outputBytes < 4 * expected.length;
  const found = half ? new Float16Array(bytes.buffer) : new Float32Array(bytes.buffer);
  const wrong = expected.findIndex((value, i) => found[i] !== value);
  if (wrong >= 0) throw new Error(`${name}: number ${wrong} must be ${expected[wrong]}, it is ${found[wrong]}`);
  // Samples of 200 ms or more, so that what a readback costs weighs little.
  const repeats = Math.max(1, Math.ceil(200 / await once(1)));
  const work = ceiling.bytes > 0 ? ceiling.bytes : ceiling.flops(iterations);
  const rates: number[] = [];
  for (let i = 0; i < SAMPLES_MIN; i++) rates.push(work * repeats / await once(repeats) / 1e6);
  for (const buffer of bound) device.free(buffer);
  return {
    suite: "ceilings",
    name,
    arm: "ours",
    unit: ceiling.bytes > 0 ? "GB/s" : "GFLOP/s",
    better: "higher",
    error: 0,
    ...summarize(rates),
  };
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const { subgroupSizes, matrices } = device.adapter;
  console.log(`subgroups of ${subgroupSizes.join(" to ")} lanes; ${matrices.length} matrix configurations`);
  const entries: Entry[] = [];
  for (const ceiling of ceilingsOf(device)) entries.push(await measure(device, ceiling));
  const rows = entries.map(({ name, median, min, max, unit }) => [
    name,
    `${short(median)} [${short(min)}, ${short(max)}] ${unit}`,
  ]);
  console.log(table(["ceiling", "median [least, greatest]"], rows));
  await finish(options, { device, entries });
}
