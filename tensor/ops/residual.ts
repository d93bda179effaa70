/**
 * Readers of normalised outputs: the end of a residual block, and plain numbers for who wants them.
 * Each goes back through ReLU and sums for the normalisation in one pass.
 */
import type { DeviceBuffer } from "../../device/device.ts";
import { maskedGradientSums, normalisedLoad } from "../../kernels/normalised.ts";
import {
  residual as residualKernel,
  residualGradientSums,
  residualPartials,
  type ResidualShape,
} from "../../kernels/residual.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import { gradientPartials, isNormalised, type Normalised, normalisedShape } from "./normalised.ts";

/** `gradient` where it may be written over, else a copy of it. */
function writable(tape: Tape, gradient: Tensor): Tensor {
  if (tape.mayOverwrite(gradient)) return gradient;
  const copy = tape.allocate(gradient.shape, gradient.dtype);
  tape.device.copy(gradient.buffer, copy.buffer);
  return copy;
}

/** Calls `use` with a buffer for partial gradient sums of `x`. */
function withPartials(
  tape: Tape,
  { x, floats }: { x: Normalised; floats: number },
  use: (partials: DeviceBuffer) => void,
): void {
  tape.scratch(floats, (partials) => {
    use(partials);
    x.backward.sum(partials);
  });
}

/** The normalised numbers as a tensor. */
export function materialise(tape: Tape, x: Normalised): Tensor {
  const { raw, value, normaliser } = x;
  const shape = normalisedShape(x);
  const output = tape.allocate(raw.shape, raw.dtype);
  tape.run(normalisedLoad(shape), [raw, normaliser, output]);
  return tape.record({
    inputs: [value],
    output,
    backward(gradient) {
      const result = writable(tape, gradient);
      withPartials(tape, { x, floats: gradientPartials(x) }, (partials) => {
        tape.device.run(maskedGradientSums(shape), [raw.buffer, normaliser.buffer, result.buffer, partials]);
      });
      return [result];
    },
  });
}

/** `max(x + shortcut, 0)`: the end of a residual block. `x` has no ReLU, nor has the shortcut where it is normalised. */
export function residual(tape: Tape, x: Normalised, shortcut: Tensor | Normalised): Tensor {
  const { raw, value, normaliser } = x;
  const beside = isNormalised(shortcut) ? shortcut : undefined;
  const plain = isNormalised(shortcut) ? shortcut.raw : shortcut;
  const channels = normaliser.shape[1];
  const shape: ResidualShape = {
    rows: raw.size / channels,
    channels,
    storage: raw.dtype,
    normalisedShortcut: beside !== undefined,
  };
  const tables = beside === undefined ? [] : [beside.normaliser];
  const output = tape.allocate(raw.shape, raw.dtype);
  tape.run(residualKernel(shape), [raw, normaliser, plain, ...tables, output]);
  return tape.record({
    inputs: [value, beside?.value ?? plain],
    output,
    backward(gradient) {
      const result = writable(tape, gradient);
      const floats = residualPartials(shape);
      withPartials(tape, { x, floats }, (partials) => {
        const run = (more: readonly DeviceBuffer[]) => {
          const read = [output, raw, normaliser, ...(beside === undefined ? [] : [plain, beside.normaliser]), result];
          tape.device.run(residualGradientSums(shape), [...read.map(({ buffer }) => buffer), partials, ...more]);
        };
        if (beside === undefined) run([]);
        else withPartials(tape, { x: beside, floats }, (second) => run([second]));
      });
      return [result, result];
    },
  });
}
