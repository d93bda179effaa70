/**
 * Learning-rate schedules as pure functions of the step, and the plateau-halving state machine as a pure function of
 * (state, loss). They know no optimiser and no clock.
 */

/** Options of {@linkcode warmupCosine}. */
export interface WarmupCosineOptions {
  /** Learning rate of the first step. */
  start: number;
  /** Learning rate at the end of the warm-up. */
  peak: number;
  /** Learning rate the cosine ends at. @default 0.001 · peak */
  end?: number;
  /** Steps of linear warm-up. */
  warmupSteps: number;
  /** Steps of the whole run. */
  totalSteps: number;
}

/**
 * Linear warm-up, then half a cosine over the fraction of the *whole* run, which is not restarted after the warm-up: the
 * rate drops a little where they join (9.6 → 9.5 in SEER). Source: VISSL `swav_8node_resnet.yaml`, fvcore
 * `param_scheduler.py`.
 */
export function warmupCosine(step: number, options: WarmupCosineOptions): number {
  const { start, peak, end = 0.001 * peak, warmupSteps, totalSteps } = options;
  if (step < warmupSteps) return start + (peak - start) * step / warmupSteps;
  return end + 0.5 * (peak - end) * (1 + Math.cos(Math.PI * Math.min(step, totalSteps) / totalSteps));
}

/** Options of {@linkcode warmupConstant}. */
export interface WarmupConstantOptions {
  /** Learning rate of the first step. @default peak */
  start?: number;
  peak: number;
  /** @default 0 */
  warmupSteps?: number;
}

/** Linear warm-up, then a constant rate (RegNetY-128GF in SEER). */
export function warmupConstant(step: number, options: WarmupConstantOptions): number {
  const { peak, start = peak, warmupSteps = 0 } = options;
  return step < warmupSteps ? start + (peak - start) * step / warmupSteps : peak;
}

/** Options of {@linkcode plateauHalving}; the SEER paper leaves them open, the defaults are ours. */
export interface PlateauHalvingOptions {
  /** Steps whose losses are averaged into one observation. @default 500 */
  window?: number;
  /** Observations without improvement before the rate is halved. @default 3 */
  patience?: number;
  /** Share of the best loss by which an observation must undercut it to count as improvement. @default 0.001 */
  threshold?: number;
  /** Factor of a cut. @default 0.5 */
  factor?: number;
  /** The factor never falls below this. @default 0.001 */
  minimum?: number;
}

/** State of {@linkcode plateauHalving}; plain numbers, so that it fits in a checkpoint. */
export interface PlateauState {
  /** What the peak learning rate is multiplied by. */
  readonly factor: number;
  /** Best mean loss of a window so far; absent before the first. */
  readonly best?: number;
  /** Windows since the best. */
  readonly stale: number;
  /** Sum and number of the losses of the window being filled. */
  readonly sum: number;
  readonly count: number;
}

/** The state before the first loss. */
export const PLATEAU_START: PlateauState = { factor: 1, stale: 0, sum: 0, count: 0 };

/**
 * The schedule "halve when the loss stops decreasing": losses are averaged over windows; after `patience` windows in a
 * row without improvement the factor is cut, and counting starts again.
 */
export function plateauHalving(state: PlateauState, loss: number, options: PlateauHalvingOptions = {}): PlateauState {
  const { window = 500, patience = 3, threshold = 0.001, factor = 0.5, minimum = 0.001 } = options;
  const sum = state.sum + loss, count = state.count + 1;
  if (count < window) return { ...state, sum, count };
  const mean = sum / count;
  const fresh = { ...state, sum: 0, count: 0 };
  if (state.best === undefined || mean < state.best - threshold * Math.abs(state.best)) {
    return { ...fresh, best: mean, stale: 0 };
  }
  if (state.stale + 1 < patience) return { ...fresh, stale: state.stale + 1 };
  return { ...fresh, stale: 0, factor: Math.max(minimum, state.factor * factor) };
}
