/**
 * Optimisers' updates of parameters in place, outside any tape, as many tensors in a launch as the device can bind. Which
 * parameter takes which step is not known here.
 */
import type { Device, DeviceBuffer } from "../../device/device.ts";
import {
  type AdamwConstants,
  adamwUpdate,
  findOverflow,
  LARC_PARTIALS,
  type LarcConstants,
  larcNorms,
  larcRatio,
  larcUpdate,
  type SgdConstants,
  sgdUpdate,
  type UpdateLaunch,
} from "../../kernels/optimizer.ts";
import { inLaunches, numberOn } from "../launches.ts";
import type { Tensor } from "../tensor.ts";

export type { AdamwConstants, LarcConstants, SgdConstants } from "../../kernels/optimizer.ts";

/** A parameter and its gradient. */
export interface Update {
  readonly parameter: Tensor;
  readonly gradient: Tensor;
}

/** Gradients that carry a loss scale. */
export interface LossScaled {
  /** What the loss was multiplied by. */
  readonly scale: number;
  /** What {@linkcode markOverflow} wrote; nothing is updated where it is not zero. */
  readonly overflow: Tensor;
}

/** What changes from step to step. */
export interface UpdateStep {
  readonly learningRate: number;
  readonly lossScaled?: LossScaled;
}

/** SGD with momentum. */
export function updateBySgd(
  updates: readonly (Update & { velocity: Tensor })[],
  { constants, step }: { constants: SgdConstants; step: UpdateStep },
): void {
  if (updates.length === 0) return;
  withScalars(updates[0].parameter.device, { step }, ({ device, scalars, overflow, scaled }) => {
    inLaunches(updates, { device, shared: 2, each: 3 }, (some) => {
      device.run(sgdUpdate(launch(some, scaled), constants), [
        scalars,
        ...overflow,
        ...some.flatMap(({ gradient, velocity, parameter }) => [gradient.buffer, velocity.buffer, parameter.buffer]),
      ]);
    });
  });
}

/** LARC around SGD with momentum. */
export function updateByLarc(
  updates: readonly (Update & { velocity: Tensor })[],
  { constants, step }: { constants: LarcConstants; step: UpdateStep },
): void {
  if (updates.length === 0) return;
  withScalars(updates[0].parameter.device, { step }, ({ device, scalars, overflow, scaled }) => {
    const partials = device.allocate(4 * LARC_PARTIALS * updates.length);
    const ratios = device.allocate(8 * updates.length);
    inLaunches(updates, { device, shared: 3, each: 2 }, (some, first) => {
      device.run(larcNorms(launch(some, scaled)), [
        scalars,
        numberOn(device, first),
        partials,
        ...some.flatMap(({ parameter, gradient }) => [parameter.buffer, gradient.buffer]),
      ]);
    });
    device.run(larcRatio(updates.length, constants), [partials, ratios]);
    inLaunches(updates, { device, shared: 4, each: 3 }, (some, first) => {
      device.run(larcUpdate(launch(some, scaled), constants), [
        scalars,
        numberOn(device, first),
        ratios,
        ...overflow,
        ...some.flatMap(({ gradient, velocity, parameter }) => [gradient.buffer, velocity.buffer, parameter.buffer]),
      ]);
    });
    device.free(partials);
    device.free(ratios);
  });
}

/** AdamW; the parameters have all taken `count` steps, this one included. */
export function updateByAdamw(
  updates: readonly (Update & { first: Tensor; second: Tensor })[],
  { constants, step, count }: { constants: AdamwConstants; step: UpdateStep; count: number },
): void {
  if (updates.length === 0) return;
  const corrections = [1 - constants.beta1 ** count, Math.sqrt(1 - constants.beta2 ** count)];
  withScalars(updates[0].parameter.device, { step, corrections }, ({ device, scalars, overflow, scaled }) => {
    inLaunches(updates, { device, shared: 2, each: 4 }, (some) => {
      device.run(adamwUpdate(launch(some, scaled), constants), [
        scalars,
        ...overflow,
        ...some.flatMap((one) => [one.gradient.buffer, one.first.buffer, one.second.buffer, one.parameter.buffer]),
      ]);
    });
  });
}

/** Sets `overflow`, `[1]`, to bits that are not zero when a number of the tensors is not finite, else to zero. */
export function markOverflow(tensors: readonly Tensor[], overflow: Tensor): void {
  const { device, buffer } = overflow;
  device.clear(buffer);
  inLaunches(tensors, { device, shared: 1, each: 1 }, (some) => {
    device.run(findOverflow(some.map(({ size }) => size)), [buffer, ...some.map((tensor) => tensor.buffer)]);
  });
}

function launch(updates: readonly Update[], scaled: boolean): UpdateLaunch {
  return { sizes: updates.map(({ parameter }) => parameter.size), scaled };
}

/** Gives `use` the buffers that all launches of a step share, and frees them. */
function withScalars(
  device: Device,
  { step, corrections = [] }: { step: UpdateStep; corrections?: readonly number[] },
  use: (given: { device: Device; scalars: DeviceBuffer; overflow: DeviceBuffer[]; scaled: boolean }) => void,
): void {
  const { learningRate, lossScaled } = step;
  const inverse = lossScaled === undefined ? [] : [1 / lossScaled.scale];
  const scalars = device.upload(Float32Array.of(learningRate, ...corrections, ...inverse));
  const overflow = lossScaled === undefined ? [] : [lossScaled.overflow.buffer];
  use({ device, scalars, overflow, scaled: lossScaled !== undefined });
  device.free(scalars);
}
