/**
 * The data loader: decodes the images that trainers ask for and sends each replica's batch once, as uint8. Trainers
 * ask a step ahead, so that decoding overlaps training. It draws no random crop and touches no GPU.
 */
import { parseConfig, type TrainConfig } from "../config.ts";
import { type BatchLoader, createBatchLoader, type ReplicaBatch } from "../data/batch.ts";
import { createSampler, type Sampler } from "../data/sampler.ts";
import type { Message } from "../wire/messages.ts";
import { toWire } from "../wire/tensor.ts";
import { cutOff, lostPeer, regrouped } from "./membership.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";
import { actorIds } from "./seats.ts";
import { openTrainingImages, type TrainingImages } from "./training_images.ts";

/** What a configured loader works with. */
export interface LoaderParts {
  readonly sampler: Sampler;
  readonly batches: BatchLoader;
  readonly images: number;
  /** For methods that learn from labels. */
  readonly labelsOf?: TrainingImages["labelsOf"];
}

interface LoaderState {
  parts: LoaderParts | undefined;
  /** Who asked for the batch of a step and replica. */
  readonly wanted: Map<string, string>;
  /** Images reported as replaced, so that each is reported once. */
  readonly reported: Set<string>;
  timeoutMs: number;
}

/** Opens the images of a configuration and prepares their order. */
export async function openLoader(config: TrainConfig): Promise<LoaderParts> {
  const { source, labelsOf } = await openTrainingImages(config);
  const sampler = createSampler({
    seed: config.seed,
    size: source.size,
    replicas: config.replicas,
    samplesPerReplica: config.batchPerReplica,
  });
  const batches = createBatchLoader({
    source,
    sampler,
    decode: { sideMax: config.data.sideMax },
    cacheBytes: config.data.cacheBytes,
  });
  return { sampler, batches, images: source.size, labelsOf };
}

/** The behaviour of a loader; `open` makes its parts from the configuration. */
export function loaderBehavior(
  open: (config: TrainConfig) => Promise<LoaderParts> = openLoader,
): Behavior<LoaderState> {
  return {
    init: () => [{ parts: undefined, wanted: new Map(), reported: new Set(), timeoutMs: 60_000 }, []],
    handle(state, message, from): [LoaderState, Effect[]] {
      if (message.type === "stop") return [state, [{ kind: "stop", reason: message.reason }]];
      if (message.type === "configure") return [state, [configure(state, message.config, open)]];
      if (message.type === "source") return [state, announce(message)];
      if (message.type === "batch") return [state, deliver(state, message)];
      if (message.type === "peer-down") return [state, lostPeer(message)];
      if (message.type === "regroup") {
        // Trainers ask anew for what they still need.
        state.wanted.clear();
        return [state, [...cutOff(message), regrouped(message.epoch)]];
      }
      if (message.type !== "want-batch" || state.parts === undefined) return [state, []];
      return [state, [serve(state, state.parts, { step: message.step, replica: message.replica, to: from })]];
    },
  };
}

function configure(
  state: LoaderState,
  input: unknown,
  open: (config: TrainConfig) => Promise<LoaderParts>,
): Effect {
  const config = parseConfig(input, { source: "the controller's configuration" });
  state.timeoutMs = config.cluster.stepTimeoutMs;
  return {
    kind: "task",
    name: `open ${config.data.folder}`,
    timeoutMs: config.cluster.startTimeoutMs,
    async run() {
      const parts = await open(config);
      state.parts = parts;
      return { type: "source", images: parts.images, stepsPerEpoch: parts.sampler.stepsPerEpoch };
    },
  };
}

function announce(source: Extract<Message, { type: "source" }>): Effect[] {
  return [
    { kind: "send", to: actorIds.controller, message: source },
    { kind: "send", to: actorIds.controller, message: { type: "ready", detail: `${source.images} images` } },
  ];
}

function serve(state: LoaderState, parts: LoaderParts, want: { step: number; replica: number; to: string }): Effect {
  const { step, replica, to } = want;
  state.wanted.set(`${step}/${replica}`, to);
  return {
    kind: "task",
    name: `load step ${step} of replica ${replica}`,
    timeoutMs: state.timeoutMs,
    async run() {
      const batch = await parts.batches.load({ ...parts.sampler.place(step), replica });
      return {
        type: "batch",
        step,
        replica,
        ids: [...batch.ids],
        offsets: [...batch.offsets],
        widths: [...batch.widths],
        heights: [...batch.heights],
        pixels: toWire(batch.images),
        replaced: batch.replaced.map(({ name, replacedByName, reason }) => ({
          file: name,
          replacement: replacedByName,
          error: reason.slice(0, 500),
        })),
        ...labelsOfBatch(parts, step, batch),
      };
    },
  };
}

/** What the images show; that of another image's pixels is its label. */
function labelsOfBatch(
  { labelsOf }: LoaderParts,
  step: number,
  { ids, replaced }: ReplicaBatch,
): { labels?: number[][] } {
  if (labelsOf === undefined) return {};
  const shown = new Map(replaced.map(({ id, replacedBy }) => [id, replacedBy]));
  return { labels: [...ids].map((id) => [...labelsOf(shown.get(id) ?? id, step)]) };
}

function deliver(state: LoaderState, batch: Extract<Message, { type: "batch" }>): Effect[] {
  const key = `${batch.step}/${batch.replica}`;
  const to = state.wanted.get(key);
  if (to === undefined) return [];
  state.wanted.delete(key);
  const images = batch.replaced.filter(({ file }) => !state.reported.has(file));
  for (const { file } of images) state.reported.add(file);
  const report: Message = { type: "images-replaced", step: batch.step, images };
  return [
    { kind: "send", to, message: batch },
    ...(images.length === 0 ? [] : [{ kind: "send", to: actorIds.controller, message: report } as const]),
  ];
}
