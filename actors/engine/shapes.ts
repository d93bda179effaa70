/**
 * What a training step of a configuration asks of a device's choices: one replica's step on a device that computes
 * nothing. All replicas ask for the same. It describes no network a second time: the step is the real one.
 */
import type { TrainConfig } from "../../config.ts";
import type { ChoiceRecord } from "../../device/choices.ts";
import type { AdapterDescription } from "../../device/device.ts";
import { type HeavyUse, RecordingDevice, type UnfitChoice } from "../../device/tune_shapes.ts";
import { toWire } from "../../wire/tensor.ts";
import { buildMethod } from "./method.ts";
import { type BatchMessage, makeViews } from "./views.ts";

/** What a step asks for, and which recorded variants it could not have. */
export interface StepUses {
  readonly uses: readonly HeavyUse[];
  readonly unfit: readonly UnfitChoice[];
}

/**
 * The heavy operations of a training step with their shapes, each once.
 *
 * @param recorded choices to be tried against the adapter
 * @throws RangeError when no variant of an operation runs on the adapter.
 */
export async function stepUses(
  config: TrainConfig,
  adapter: AdapterDescription,
  recorded?: ChoiceRecord,
): Promise<StepUses> {
  const device = new RecordingDevice(adapter, recorded);
  const method = buildMethod(device, config, { blank: true });
  const { batchPerReplica: batch, assignCrops } = config;
  const views = makeViews(device, blankBatch(batch), config);
  await method.step([{ replica: 0, views, labels: new Array(batch).fill([0]) }], {
    step: 0,
    optimizer: { stepCount: 0, step() {}, retract() {}, state: () => new Map(), load() {}, dispose() {} },
    learningRate: 0,
    world: () => ({ size: config.replicas, allReduce: (_key, values) => Promise.resolve(values) }),
    assigner: {
      assign: () => Promise.resolve(new Float32Array(assignCrops.length * batch * config.prototypes.count)),
    },
    gradients: { add() {}, finish: () => Promise.resolve(new Map()) },
  });
  return { uses: device.uses, unfit: device.unfit };
}

/** A batch of black pixels. */
function blankBatch(count: number): BatchMessage {
  const each = <T>(value: T): T[] => new Array<T>(count).fill(value);
  return {
    type: "batch",
    step: 0,
    replica: 0,
    ids: each(0),
    offsets: each(0),
    widths: each(1),
    heights: each(1),
    pixels: toWire(new Uint8Array(4)),
    replaced: [],
  };
}

/**
 * Tries a run's recorded variants against an adapter.
 *
 * @throws RangeError when one that a step needs does not run there.
 */
export async function checkChoices(
  adapter: AdapterDescription,
  { config, choices }: { config: TrainConfig; choices: ChoiceRecord },
): Promise<void> {
  const { uses, unfit } = await stepUses(config, adapter, choices);
  if (unfit.length === 0) return;
  const [{ key, variant, reason }] = unfit;
  throw new RangeError(
    `cannot run this run's kernels on "${adapter.name}": ${unfit.length} of ${uses.length} recorded variants do not ` +
      `run there, the first is "${variant}" for "${key}": ${reason}; give all trainers adapters like the first one's ` +
      "(cluster.adapters), or start the run anew on this machine",
  );
}
