/** Optimisers' updates of one parameter in place, outside any tape. Which parameter takes which step is not known here. */
import {
  type AdamwConstants,
  adamwUpdate,
  type LarcConstants,
  larcNorms,
  larcPartials,
  larcRatio,
  larcUpdate,
  type SgdConstants,
  sgdUpdate,
} from "../../kernels/optimizer.ts";
import type { Tensor } from "../tensor.ts";

export type { AdamwConstants, LarcConstants, SgdConstants } from "../../kernels/optimizer.ts";

/** A parameter, its gradient, and what changes from step to step: the learning rate first. */
export interface Update {
  readonly parameter: Tensor;
  readonly gradient: Tensor;
  readonly scalars: Tensor;
}

/** SGD with momentum; `scalars` is `[learning rate]`. */
export function updateBySgd(update: Update & { velocity: Tensor }, constants: SgdConstants): void {
  const { parameter, gradient, scalars, velocity } = update;
  parameter.device.run(
    sgdUpdate(parameter.size, constants),
    [gradient.buffer, scalars.buffer, velocity.buffer, parameter.buffer],
  );
}

/** LARC around SGD with momentum; `scalars` is `[learning rate]`. */
export function updateByLarc(update: Update & { velocity: Tensor }, constants: LarcConstants): void {
  const { parameter, gradient, scalars, velocity } = update;
  const { device, buffer, size } = parameter;
  const partials = device.allocate(4 * larcPartials(size)), ratio = device.allocate(8);
  device.run(larcNorms(size), [buffer, gradient.buffer, partials]);
  device.run(larcRatio(size, constants), [partials, ratio]);
  device.run(larcUpdate(size, constants), [gradient.buffer, ratio, scalars.buffer, velocity.buffer, buffer]);
  device.free(partials);
  device.free(ratio);
}

/** AdamW; `scalars` is `[learning rate, 1 − β₁ᵗ, √(1 − β₂ᵗ)]`. */
export function updateByAdamw(update: Update & { first: Tensor; second: Tensor }, constants: AdamwConstants): void {
  const { parameter, gradient, scalars, first, second } = update;
  parameter.device.run(
    adamwUpdate(parameter.size, constants),
    [gradient.buffer, scalars.buffer, first.buffer, second.buffer, parameter.buffer],
  );
}
