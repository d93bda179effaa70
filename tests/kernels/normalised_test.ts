import { sumTotals } from "../../device/tune_trial.ts";
import type { Device } from "../../device/device.ts";
import { batchNormGradientPartials } from "../../kernels/batch_norm_gradient.ts";
import type { Kernel } from "../../kernels/kernel.ts";
import {
  maskedGradientSums,
  maskedGradientSumsReference,
  normalisedLoad,
  normalisedLoadReference,
  type NormalisedShape,
} from "../../kernels/normalised.ts";
import {
  residual,
  residualGradientSums,
  residualPartials,
  residualReference,
  type ResidualShape,
} from "../../kernels/residual.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, madeUp } from "./close.ts";
import { type Bound, runProgram, stored } from "./tile/run.ts";

type Numbers = Float32Array<ArrayBuffer>;

/** Runs one kernel over named buffers, in order. */
async function runNamed(device: Device, kernel: Kernel, bound: Readonly<Record<string, Bound>>) {
  const program = { launches: [{ kernel, buffers: Object.keys(bound) }], workspaceBytes: 0 };
  const results = await runProgram(device, program, bound);
  return (name: string): Numbers => results.get(name) ?? new Float32Array();
}

const SHAPES: readonly NormalisedShape[] = [
  { images: 3, pixels: 35, channels: 8, load: "normalised relu gated", storage: "f32" },
  { images: 2, pixels: 50, channels: 7, load: "normalised relu gated", storage: "f32" },
  { images: 2, pixels: 49, channels: 12, load: "normalised relu gated", storage: "f16" },
  { images: 2, pixels: 25, channels: 5, load: "normalised relu gated", storage: "f16" },
];

function dataOf({ images, pixels, channels, storage }: NormalisedShape) {
  const length = images * pixels * channels;
  const table = (seed: number) =>
    madeUp(4 * channels, seed).map((value, i) => Math.floor(i / channels) % 2 === 1 ? value + 1.5 : value);
  return {
    length,
    rows: images * pixels,
    raw: stored(madeUp(length, 1), storage),
    other: stored(madeUp(length, 2), storage),
    gradient: stored(madeUp(length, 3), storage),
    normaliser: table(4),
    second: table(5),
    gate: madeUp(images * channels, 6),
  };
}

const totals = (sums: Numbers, channels: number) => sumTotals(sums, channels).flatMap(([, values]) => [...values]);

for (const shape of SHAPES) {
  const { images, pixels, channels, storage } = shape;
  const name = `${images}x${pixels}x${channels} ${storage}`;
  const { length, rows, raw, other, gradient, normaliser, second, gate } = dataOf(shape);
  const bound = storage === "f32" ? 1e-6 : 1e-3;
  const partials = { data: batchNormGradientPartials({ rows, channels }) };

  eachDevice(`loads of normalised numbers equal their reference: ${name}`, async (device) => {
    for (const load of ["normalised", "normalised relu", "normalised relu gated"] as const) {
      const read = await runNamed(device, normalisedLoad({ ...shape, load }), {
        x: { data: raw, storage },
        normaliser: { data: normaliser },
        ...(load === "normalised relu gated" ? { gate: { data: gate } } : {}),
        result: { data: length, storage },
      });
      const expected = normalisedLoadReference(raw, { normaliser, gate }, { ...shape, load });
      assertClose(read("result"), expected, { bound, what: load });
    }
  });

  eachDevice(`the way back through ReLU masks in place and sums: ${name}`, async (device) => {
    const tables = { x: { data: raw, storage }, normaliser: { data: normaliser } };
    const check = (read: (name: string) => Numbers, through: Numbers, what: string) => {
      const load = { channels, load: "normalised relu" } as const;
      const expected = maskedGradientSumsReference({ raw, gradient: through, normaliser }, load);
      assertClose(read("g"), expected.gradient, { bound, what });
      // Of the gradient before it is rounded, as the kernel sums it.
      assertClose(totals(read("partials"), channels), expected.sums, { bound: 1e-5, what: `${what}: sums` });
    };
    const g = { data: gradient, storage };
    const plain = await runNamed(device, maskedGradientSums({ ...shape, load: "normalised relu" }), {
      ...tables,
      g,
      partials,
    });
    check(plain, gradient, "ReLU");
  });

  eachDevice(`the end of a block equals its reference, forward and back: ${name}`, async (device) => {
    for (const normalisedShortcut of [false, true]) {
      const block: ResidualShape = { rows, channels, storage, normalisedShortcut };
      const partials = { data: residualPartials(block) };
      const inputs = {
        c: { data: raw, storage },
        normaliser: { data: normaliser },
        shortcut: { data: other, storage },
        ...(normalisedShortcut ? { shortcutNormaliser: { data: second } } : {}),
      };
      const shortcutNormaliser = normalisedShortcut ? second : undefined;
      const expected = residualReference({ c: raw, normaliser, shortcut: other, shortcutNormaliser }, channels);
      const forward = await runNamed(device, residual(block), { ...inputs, result: { data: length, storage } });
      assertClose(forward("result"), expected, { bound, what: "result" });

      const { shortcut, ...withoutShortcut } = inputs;
      const back = await runNamed(device, residualGradientSums(block), {
        x: { data: forward("result"), storage },
        ...(normalisedShortcut ? inputs : withoutShortcut),
        g: { data: gradient, storage },
        partials,
        ...(normalisedShortcut ? { shortcutPartials: partials } : {}),
      });
      const masked = gradient.map((value, at) => forward("result")[at] > 0 ? value : 0);
      assertClose(back("g"), masked, { what: "gradient" });
      const sumsOf = (x: Numbers, table: Numbers) =>
        maskedGradientSumsReference({ raw: x, gradient: masked, normaliser: table }, { channels, load: "normalised" })
          .sums;
      assertClose(totals(back("partials"), channels), sumsOf(raw, normaliser), { bound: 1e-5, what: "sums" });
      if (!normalisedShortcut) continue;
      const beside = totals(back("shortcutPartials"), channels);
      assertClose(beside, sumsOf(shortcut.data, second), { bound: 1e-5, what: "sums of the shortcut" });
    }
  });
}
