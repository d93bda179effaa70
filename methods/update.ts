/**
 * The second half of a step: the weights move by the sums over all replicas, and what the step leaves behind (running
 * statistics, and what the method carries on) is taken. The same on a trainer that computed the step and on one that
 * follows. It knows no forward pass.
 */
import type { Network, StepContext } from "./step.ts";
import { markOverflow } from "../tensor/ops/update.ts";
import { type Tensor, zeros } from "../tensor/tensor.ts";

/** What moving the weights needs. */
export type UpdateContext = Pick<StepContext, "model" | "optimizer" | "learningRate" | "resting" | "lossScale">;

/** The sums over all replicas by parameter name. */
export type Sums = ReadonlyMap<string, Tensor>;

/** What a step leaves behind besides the weights. */
export interface Leavings {
  /** Running statistics, all buffers in order; absent where the buffers hold them already. */
  readonly statistics?: Float32Array<ArrayBuffer>;
  /** What the method carries on, by replica, ascending. */
  readonly carries: readonly { readonly replica: number; readonly carry: Float32Array<ArrayBuffer> }[];
}

/** With a loss scale the mark of an overflow, `[1]`, found in the sums so that every trainer decides alike. */
export function markSums(sums: Sums, { model, lossScale }: UpdateContext): Tensor | undefined {
  if (lossScale === undefined) return undefined;
  const mark = zeros(model.device, [1]);
  markOverflow([...sums.values()], mark);
  return mark;
}

/** Moves the weights, unless the gradients have overflowed. The loss scale is not told yet. */
export function moveWeights(
  { model, optimizer, learningRate, resting, lossScale }: UpdateContext,
  { sums, mark, overflowed }: { sums: Sums; mark: Tensor | undefined; overflowed: boolean },
): void {
  const learning = model.parameters.filter(({ name }) => !resting?.has(name));
  if (lossScale === undefined || mark === undefined) return optimizer.step(learning, sums, learningRate);
  optimizer.step(learning, sums, { learningRate, lossScaled: { scale: lossScale.value, overflow: mark } });
  if (overflowed) optimizer.retract();
}

/** Takes what a step leaves behind. */
export function leaveBehind(
  context: Pick<StepContext, "model" | "carried">,
  { statistics, carries }: Leavings,
): void {
  if (statistics !== undefined) writeStatistics(context.model, statistics);
  for (const { replica, carry } of carries) context.carried?.(replica, carry);
}

/** Numbers of all running statistics. */
export function statisticsSize({ buffers }: Network): number {
  return buffers.reduce((sum, { tensor }) => sum + tensor.size, 0);
}

/** One array after the other. */
export function joined(parts: readonly Float32Array<ArrayBuffer>[]): Float32Array<ArrayBuffer> {
  const whole = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}

/**
 * What the pieces of all replicas hold: a replica's is what the method carries on, and replica 0's ends in the running
 * statistics. No pieces at all where a step leaves nothing behind.
 *
 * @throws {RangeError} When replica 0's piece is too short, or pieces lack though the model has running statistics.
 */
export function splitPieces(pieces: readonly Float32Array<ArrayBuffer>[], model: Network): Leavings {
  const size = statisticsSize(model);
  const { length = 0 } = pieces[0] ?? {};
  if (length < size) {
    throw new RangeError(
      `Cannot take the step: replica 0's piece must hold ${size} running statistics, it holds ${length} numbers`,
    );
  }
  const carries = pieces.map((piece, replica) => ({
    replica,
    carry: replica === 0 ? piece.subarray(0, length - size) : piece,
  }));
  return {
    statistics: size === 0 ? undefined : pieces[0].subarray(length - size),
    carries: carries.filter(({ carry }) => carry.length > 0),
  };
}

/** Overwrites all running statistics; one upload, whose parts are copied on the device. */
function writeStatistics({ device, buffers }: Network, statistics: Float32Array<ArrayBuffer>): void {
  const source = device.upload(statistics);
  let sourceOffset = 0;
  for (const { tensor } of buffers) {
    const byteLength = 4 * tensor.size;
    device.copy(source, tensor.buffer, { sourceOffset, byteLength });
    sourceOffset += byteLength;
  }
  device.free(source);
}
