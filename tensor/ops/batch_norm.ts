/**
 * Batch normalisation on the tape, forward and gradient: over this replica's rows, over a group of replicas
 * (synchronised), or by running statistics. The optional ReLU behind it costs no pass of its own.
 */
import type { DeviceBuffer } from "../../device/device.ts";
import {
  batchNormApply,
  batchNormLocalMoments,
  batchNormMomentPartials,
  batchNormMoments,
  batchNormNormaliser,
  batchNormNormaliserFrom,
  type BatchNormShape,
} from "../../kernels/batch_norm.ts";
import {
  batchNormGradientCombine,
  batchNormGradientPartials,
  batchNormGradientSums,
  batchNormInputGradient,
} from "../../kernels/batch_norm_gradient.ts";
import type { InputGradients, Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** What synchronised batch normalisation needs of a group of replicas; `Collective` of collectives/ is one. */
export interface VectorSum {
  allReduce(key: string, values: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
}

/** Options of {@linkcode batchNorm}. */
export interface BatchNormOptions {
  epsilon: number;
  /** Normalise by the batch's own statistics; otherwise by `running`. */
  training: boolean;
  /** Running mean and variance, `[C]` each: read in evaluation, moved in training when `momentum` is given. */
  running?: { mean: Tensor; variance: Tensor };
  /** Share by which running statistics move towards the batch's, the variance unbiased (PyTorch: 0.1). */
  momentum?: number;
  /** The group whose rows are normalised together; this replica alone when absent. */
  collective?: VectorSum;
  /** Names this normalisation in the group's exchanges; unique within a step. */
  key?: string;
  /** Apply ReLU to the result. */
  relu?: boolean;
}

/** The parameters of {@linkcode batchNorm}. */
export interface BatchNormInputs {
  /** `[…, C]`; all other dimensions are rows. */
  x: Tensor;
  /** `[C]`. */
  gamma: Tensor;
  /** `[C]`. */
  beta: Tensor;
}

/**
 * `gamma · (x − mean) / sqrt(variance + epsilon) + beta` per channel. Gradients of gamma and beta are this replica's own
 * sums also when synchronised, to be averaged over replicas like every other gradient.
 */
export async function batchNorm(tape: Tape, inputs: BatchNormInputs, options: BatchNormOptions): Promise<Tensor> {
  const { x, gamma, beta } = inputs;
  const { training, collective, relu = false } = options;
  const channels = gamma.size;
  const shape: BatchNormShape = { rows: x.size / channels, channels };
  const normaliser = tape.allocate([4, channels]);
  let groupRows = shape.rows;
  if (!training) normaliserFromRunning(tape, { ...inputs, normaliser }, options);
  else if (collective) groupRows = await groupNormaliser(tape, { ...inputs, normaliser, shape }, options);
  else localNormaliser(tape, { ...inputs, normaliser, shape }, options);
  const output = tape.allocate(x.shape);
  tape.run(batchNormApply(shape, { relu }), [x, normaliser, output]);
  return tape.record({
    inputs: [x, gamma, beta],
    output,
    saved: [normaliser],
    backward: (gradient) => backward(tape, { ...inputs, normaliser, shape, gradient, groupRows }, options),
  });
}

interface Forward extends BatchNormInputs {
  readonly normaliser: Tensor;
  readonly shape: BatchNormShape;
}

function normaliserFromRunning(
  tape: Tape,
  { gamma, beta, normaliser }: BatchNormInputs & { normaliser: Tensor },
  { running, epsilon }: BatchNormOptions,
): void {
  if (!running) throw new TypeError("Cannot normalise in evaluation: running statistics must be given, they are not");
  tape.run(batchNormNormaliserFrom(gamma.size, { epsilon }), [running.mean, running.variance, gamma, beta, normaliser]);
}

function localNormaliser(tape: Tape, { x, gamma, beta, normaliser, shape }: Forward, options: BatchNormOptions): void {
  const { running, momentum, epsilon } = options;
  const moved = momentum !== undefined && running ? [running.mean.buffer, running.variance.buffer] : [];
  tape.scratch(batchNormMomentPartials(shape), (partials) => {
    tape.device.run(batchNormMoments(shape), [x.buffer, partials]);
    tape.device.run(
      batchNormNormaliser(shape, { epsilon, momentum: moved.length ? momentum : undefined }),
      [partials, gamma.buffer, beta.buffer, normaliser.buffer, ...moved],
    );
  });
}

/** Fetches `[2, C]` numbers of this replica. */
async function fetchPair(tape: Tape, buffer: DeviceBuffer, channels: number): Promise<Float32Array<ArrayBuffer>> {
  const [bytes] = await tape.device.read([{ buffer, byteLength: 8 * channels }]);
  tape.device.free(buffer);
  return new Float32Array(bytes.buffer, bytes.byteOffset, 2 * channels);
}

/**
 * Statistics of the whole group, in two exchanges: count and sums give the mean; squares centred on that mean give the
 * variance, as a sum of positive terms that cannot cancel. Returns the group's rows.
 */
async function groupNormaliser(
  tape: Tape,
  { x, gamma, beta, normaliser, shape }: Forward,
  options: BatchNormOptions,
): Promise<number> {
  const { collective, key = "batch norm", running, momentum, epsilon } = options;
  if (!collective) throw new TypeError("Cannot normalise over a group: a collective must be given, it is not");
  const { device } = tape;
  const { rows, channels } = shape;
  const moments = device.allocate(8 * channels);
  tape.scratch(batchNormMomentPartials(shape), (partials) => {
    device.run(batchNormMoments(shape), [x.buffer, partials]);
    device.run(batchNormLocalMoments(shape), [partials, moments]);
  });
  const local = await fetchPair(tape, moments, channels);
  const counted = new Float32Array(1 + channels);
  counted[0] = rows;
  counted.set(local.subarray(0, channels), 1);
  const sums = await collective.allReduce(`${key}/mean`, counted);
  const count = sums[0];
  const mean = new Float32Array(channels), squares = new Float32Array(channels);
  for (let c = 0; c < channels; c++) {
    const groupMean = sums[1 + c] / count;
    mean[c] = groupMean;
    squares[c] = local[channels + c] + rows * (local[c] / rows - groupMean) ** 2;
  }
  const total = await collective.allReduce(`${key}/variance`, squares);
  const given = [mean, total.map((v) => v / count)].map((values) => device.upload(values));
  const move = momentum !== undefined && running !== undefined;
  const moved = move
    ? [device.upload(total.map((v) => v / Math.max(1, count - 1))), running.mean.buffer, running.variance.buffer]
    : [];
  device.run(
    batchNormNormaliserFrom(channels, { epsilon, momentum: move ? momentum : undefined }),
    [...given, gamma.buffer, beta.buffer, normaliser.buffer, ...moved],
  );
  for (const buffer of [...given, ...moved.slice(0, 1)]) device.free(buffer);
  return count;
}

function backward(
  tape: Tape,
  state: Forward & { gradient: Tensor; groupRows: number },
  options: BatchNormOptions,
): InputGradients | Promise<InputGradients> {
  const { x, gamma, beta, normaliser, shape, gradient } = state;
  const { training, relu = false, collective } = options;
  const { device } = tape;
  const gammaGradient = tape.allocate(gamma.shape), betaGradient = tape.allocate(beta.shape);
  const sums = device.allocate(8 * shape.channels);
  tape.scratch(batchNormGradientPartials(shape), (partials) => {
    device.run(batchNormGradientSums(shape, { relu }), [gradient.buffer, x.buffer, normaliser.buffer, partials]);
    device.run(
      batchNormGradientCombine(shape),
      [partials, normaliser.buffer, gammaGradient.buffer, betaGradient.buffer, sums],
    );
  });
  const finish = (sums: DeviceBuffer): InputGradients => {
    let xGradient: Tensor | undefined;
    if (tape.needsGradient(x)) {
      xGradient = tape.allocate(x.shape);
      const table = training ? [sums] : [];
      device.run(
        batchNormInputGradient(shape, { relu, training }),
        [gradient.buffer, x.buffer, normaliser.buffer, ...table, xGradient.buffer],
      );
    }
    device.free(sums);
    return [xGradient, gammaGradient, betaGradient];
  };
  return training && collective ? groupSums(tape, { ...state, sums }, options).then(finish) : finish(sums);
}

/** The two gradient sums over the group, scaled to this replica's share of its rows. */
async function groupSums(
  tape: Tape,
  { shape, sums, groupRows }: { shape: BatchNormShape; sums: DeviceBuffer; groupRows: number },
  { collective, key = "batch norm" }: BatchNormOptions,
): Promise<DeviceBuffer> {
  if (!collective) throw new TypeError("Cannot normalise over a group: a collective must be given, it is not");
  const local = await fetchPair(tape, sums, shape.channels);
  const total = await collective.allReduce(`${key}/gradient`, local);
  return tape.device.upload(total.map((v) => v * shape.rows / groupRows));
}
