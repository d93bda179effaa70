/**
 * Batch normalisation of a tensor on the tape, forward and gradient. The optional ReLU behind it costs no pass of its own.
 * The networks' convolutions fuse theirs (normalised.ts); this one is for rows of features.
 */
import type { DeviceBuffer } from "../../device/device.ts";
import {
  batchNormApply,
  batchNormMomentPartials,
  batchNormMoments,
  type BatchNormShape,
} from "../../kernels/batch_norm.ts";
import {
  batchNormGradientPartials,
  batchNormGradientSums,
  batchNormInputGradient,
} from "../../kernels/batch_norm_gradient.ts";
import type { InputGradients, Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";
import {
  gradientFromPartials,
  groupSums,
  type NormOptions,
  type NormParameters,
  type NormTable,
  tableFromPartials,
  tableFromRunning,
} from "./norm_table.ts";

export type { VectorSum } from "./norm_table.ts";

/** Options of {@linkcode batchNorm}. */
export interface BatchNormOptions extends NormOptions {
  /** Apply ReLU to the result. */
  relu?: boolean;
}

/** The input of {@linkcode batchNorm}, `[…, C]`, all other dimensions being rows, and its parameters. */
export interface BatchNormInputs extends NormParameters {
  readonly x: Tensor;
}

/** `gamma · (x − mean) / sqrt(variance + epsilon) + beta` per channel, stored as `x`. */
export async function batchNorm(tape: Tape, inputs: BatchNormInputs, options: BatchNormOptions): Promise<Tensor> {
  const { x, gamma, beta } = inputs;
  const { training, relu = false } = options;
  const channels = gamma.size;
  const shape: BatchNormShape = { rows: x.size / channels, channels, storage: x.dtype };
  const table = training
    ? await batchTable(tape, { ...inputs, shape }, options)
    : tableFromRunning(tape, inputs, options);
  const { normaliser, owned } = table;
  const output = tape.allocate(x.shape, x.dtype);
  tape.run(batchNormApply(shape, { relu }), [x, normaliser, output]);
  return tape.record({
    inputs: [x, gamma, beta],
    output,
    saved: owned ? [normaliser] : [],
    backward: (gradient) => backward(tape, { ...inputs, ...table, shape, gradient }, options),
  });
}

function batchTable(
  tape: Tape,
  { x, gamma, beta, shape }: BatchNormInputs & { shape: BatchNormShape },
  options: NormOptions,
): NormTable | Promise<NormTable> {
  const partials = tape.device.allocate(4 * batchNormMomentPartials(shape));
  tape.device.run(batchNormMoments(shape), [x.buffer, partials]);
  const table = tableFromPartials(tape, { partials, rows: shape.rows, gamma, beta }, options);
  tape.device.free(partials);
  return table;
}

interface Backward extends BatchNormInputs, NormTable {
  readonly shape: BatchNormShape;
  readonly gradient: Tensor;
}

async function backward(
  tape: Tape,
  { x, gamma, beta, normaliser, shape, gradient, groupRows }: Backward,
  options: BatchNormOptions,
): Promise<InputGradients> {
  const { training, relu = false } = options;
  const { device } = tape;
  const { rows, channels } = shape;
  const partials = device.allocate(4 * batchNormGradientPartials(shape));
  device.run(batchNormGradientSums(shape, { relu }), [gradient.buffer, x.buffer, normaliser.buffer, partials]);
  const made = gradientFromPartials(tape, { partials, normaliser, gamma, beta, rows });
  device.free(partials);
  const sums: DeviceBuffer = await groupSums(tape, { sums: made.sums, channels, rows, groupRows }, options);
  let xGradient: Tensor | undefined;
  if (tape.needsGradient(x)) {
    xGradient = tape.allocate(x.shape, x.dtype);
    device.run(
      batchNormInputGradient(shape, { relu, training }),
      [gradient.buffer, x.buffer, normaliser.buffer, ...(training ? [sums] : []), xGradient.buffer],
    );
  }
  device.free(sums);
  return [xGradient, made.gamma, made.beta];
}
