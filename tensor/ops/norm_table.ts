/**
 * The small tables of batch normalisation: from partial moments to a normaliser, over this replica's rows, over a group of
 * replicas (synchronised) or by running statistics; and from partial gradient sums to the gradients of gamma and beta and
 * what the gradient towards the input needs. Which pass over the activations made the partial sums is not known here.
 */
import type { DeviceBuffer } from "../../device/device.ts";
import {
  batchNormLocalMoments,
  batchNormNormaliser,
  batchNormNormaliserFrom,
  type BatchNormShape,
} from "../../kernels/batch_norm.ts";
import {
  batchNormGradientCombine,
  batchNormGradientMerge,
  GRADIENT_CHUNKS_MAX,
} from "../../kernels/batch_norm_gradient.ts";
import type { SavedStatistics } from "../statistics.ts";
import type { Tape } from "../tape.ts";
import type { Tensor } from "../tensor.ts";

/** What synchronised batch normalisation needs of a group of replicas; `Collective` of collectives/ is one. */
export interface VectorSum {
  allReduce(key: string, values: Float32Array<ArrayBuffer>): Promise<Float32Array<ArrayBuffer>>;
}

/** How a normalisation finds its statistics. */
export interface NormOptions {
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
  /** Statistics of an earlier run of the same forward pass, used in place of this run's; filled where they are not yet. */
  saved?: SavedStatistics;
}

/** Scale and shift of a normalisation, `[C]` each. */
export interface NormParameters {
  readonly gamma: Tensor;
  readonly beta: Tensor;
}

/** A normaliser and how many rows its statistics are of. */
export interface NormTable {
  /** `[4, C]`: mean, gamma / sqrt(variance + epsilon), beta, 1 / sqrt(variance + epsilon). */
  readonly normaliser: Tensor;
  readonly groupRows: number;
  /** Whether the tape owns the normaliser; otherwise saved statistics do. */
  readonly owned: boolean;
}

/** The table of running statistics. */
export function tableFromRunning(tape: Tape, { gamma, beta }: NormParameters, options: NormOptions): NormTable {
  const { running, epsilon } = options;
  if (!running) throw new TypeError("Cannot normalise in evaluation: running statistics must be given, they are not");
  const normaliser = tape.allocate([4, gamma.size]);
  tape.run(batchNormNormaliserFrom(gamma.size, { epsilon }), [running.mean, running.variance, gamma, beta, normaliser]);
  return { normaliser, groupRows: 0, owned: true };
}

/**
 * The table of a batch from partial moments (`batchNormMoments`) of `rows` rows. The partials are read before this
 * returns; a group's exchanges may take longer.
 */
export function tableFromPartials(
  tape: Tape,
  { partials, rows, ...parameters }: NormParameters & { partials: DeviceBuffer; rows: number },
  options: NormOptions,
): NormTable | Promise<NormTable> {
  const { saved, key = "batch norm", collective } = options;
  const known = saved?.get(key);
  if (known !== undefined) return { normaliser: known.normaliser, groupRows: known.groupRows, owned: false };
  const keep = (table: NormTable): NormTable => {
    if (saved === undefined) return table;
    saved.set(key, { normaliser: tape.disown(table.normaliser), groupRows: table.groupRows });
    return { ...table, owned: false };
  };
  const shape = { rows, channels: parameters.gamma.size };
  if (!collective) return keep(localTable(tape, { ...parameters, partials, shape }, options));
  const moments = tape.device.allocate(8 * shape.channels);
  tape.device.run(batchNormLocalMoments(shape), [partials, moments]);
  return groupTable(tape, { ...parameters, moments, shape }, { ...options, collective, key }).then(keep);
}

function localTable(
  tape: Tape,
  { gamma, beta, partials, shape }: NormParameters & { partials: DeviceBuffer; shape: BatchNormShape },
  { running, momentum, epsilon }: NormOptions,
): NormTable {
  const normaliser = tape.allocate([4, gamma.size]);
  const moved = momentum !== undefined && running ? [running.mean.buffer, running.variance.buffer] : [];
  tape.device.run(
    batchNormNormaliser(shape, { epsilon, momentum: moved.length ? momentum : undefined }),
    [partials, gamma.buffer, beta.buffer, normaliser.buffer, ...moved],
  );
  return { normaliser, groupRows: shape.rows, owned: true };
}

/** Fetches `[2, C]` numbers of this replica, and frees them. */
async function fetchPair(tape: Tape, buffer: DeviceBuffer, channels: number): Promise<Float32Array<ArrayBuffer>> {
  const [bytes] = await tape.device.read([{ buffer, byteLength: 8 * channels }]);
  tape.device.free(buffer);
  return new Float32Array(bytes.buffer, bytes.byteOffset, 2 * channels);
}

/**
 * Statistics of the whole group, in two exchanges: count and sums give the mean; squares centred on that mean give the
 * variance, as a sum of positive terms that cannot cancel.
 */
async function groupTable(
  tape: Tape,
  { gamma, beta, moments, shape }: NormParameters & { moments: DeviceBuffer; shape: BatchNormShape },
  options: NormOptions & { collective: VectorSum; key: string },
): Promise<NormTable> {
  const { collective, key, running, momentum, epsilon } = options;
  const { device } = tape;
  const { rows, channels } = shape;
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
  const normaliser = tape.allocate([4, channels]);
  device.run(
    batchNormNormaliserFrom(channels, { epsilon, momentum: move ? momentum : undefined }),
    [...given, gamma.buffer, beta.buffer, normaliser.buffer, ...moved],
  );
  for (const buffer of [...given, ...moved.slice(0, 1)]) device.free(buffer);
  return { normaliser, groupRows: count, owned: true };
}

/** What partial gradient sums come to on this replica. */
export interface NormGradient {
  readonly gamma: Tensor;
  readonly beta: Tensor;
  /** `[2, C]`: Σ g and Σ g · (x − mean) of this replica; the caller's to free. */
  readonly sums: DeviceBuffer;
}

/**
 * Gradients of gamma and beta from partial sums (`batchNormGradientSums`), which are read before this returns. They are
 * this replica's own also when synchronised, to be averaged over replicas like every other gradient.
 */
export function gradientFromPartials(
  tape: Tape,
  { partials, normaliser, gamma, beta, rows }: NormParameters & {
    partials: DeviceBuffer;
    normaliser: Tensor;
    rows: number;
  },
): NormGradient {
  const made = {
    gamma: tape.allocate(gamma.shape),
    beta: tape.allocate(beta.shape),
    sums: tape.device.allocate(8 * gamma.size),
  };
  const combine = (sums: DeviceBuffer) =>
    tape.device.run(
      batchNormGradientCombine({ rows, channels: gamma.size }),
      [sums, normaliser.buffer, made.gamma.buffer, made.beta.buffer, made.sums],
    );
  const chunks = partials.byteLength / (8 * gamma.size);
  if (chunks <= GRADIENT_CHUNKS_MAX) combine(partials);
  else {
    const { kernel, mergedCount } = batchNormGradientMerge({ chunks, channels: gamma.size });
    tape.scratch(mergedCount, (merged) => {
      tape.device.run(kernel, [partials, merged]);
      combine(merged);
    });
  }
  return made;
}

/** The two sums over the group, scaled to this replica's share of its rows; the replica's own without a group. */
export function groupSums(
  tape: Tape,
  { sums, channels, rows, groupRows }: { sums: DeviceBuffer; channels: number; rows: number; groupRows: number },
  { training, collective, key = "batch norm" }: NormOptions,
): DeviceBuffer | Promise<DeviceBuffer> {
  if (!training || collective === undefined) return sums;
  const exchange = async () => {
    const local = await fetchPair(tape, sums, channels);
    const total = await collective.allReduce(`${key}/gradient`, local);
    return tape.device.upload(total.map((v) => v * rows / groupRows));
  };
  return exchange();
}
