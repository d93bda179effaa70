/**
 * Bytes and messages of one step on the links of the trainer that has most to send. Tensors travel as raw f32 and uint8;
 * the envelopes around them (some tens of bytes a message) are left out. It opens no socket.
 */
import { type TrainerSeat } from "../actors/seats.ts";
import { treeCover } from "../collectives/tree.ts";
import { globalBatch, type TrainConfig } from "../config.ts";
import type { NetworkSummary } from "./network.ts";

/** One link in one step, seen from the trainer. */
export interface LinkPlan {
  readonly from: string;
  readonly to: string;
  readonly what: string;
  readonly messages: number;
  readonly bytes: number;
}

/** Partial sums that a trainer sends for one all-reduce over the whole world. */
function worldPartials(config: TrainConfig, seat: TrainerSeat): number {
  return treeCover(config.replicas, seat.low, seat.high).length;
}

/** Partial sums that a trainer sends for one all-reduce over each batch-norm group that it has a part in. */
function groupPartials(config: TrainConfig, { low, high }: TrainerSeat): { partials: number; groups: number } {
  const size = config.syncBatchNormGroup;
  let partials = 0, groups = 0;
  for (let start = Math.floor(low / size) * size; start < high; start += size) {
    partials += treeCover(size, Math.max(low, start) - start, Math.min(high, start + size) - start).length;
    groups++;
  }
  return { partials, groups };
}

/** The gradient on its way to the sync shards and back. */
function gradientLinks(
  config: TrainConfig,
  { network, seat }: { network: NetworkSummary; seat: TrainerSeat },
): LinkPlan[] {
  const { syncShards, sliceBytes } = config.cluster;
  const bytes = 4 * network.parameters.total, slices = Math.ceil(bytes / sliceBytes);
  const partials = worldPartials(config, seat);
  const shard = syncShards === 1 ? "sync" : `each of ${syncShards} sync shards`;
  const share = (total: number) => Math.ceil(total / syncShards);
  return [
    {
      from: "trainer",
      to: shard,
      what: partials === 1 ? "gradient" : `gradient, ${partials} partial sums`,
      messages: share(slices * partials),
      bytes: share(bytes * partials),
    },
    { from: shard, to: "trainer", what: "summed gradient", messages: share(slices), bytes: share(bytes) },
  ];
}

/** Exchanges of one batch norm: means, then squares, going forward; two sums in one going back. */
const EXCHANGES = 3;

/** Synchronised batch norm; nothing when every replica normalises alone. */
function batchNormLinks(
  config: TrainConfig,
  { network, seat }: { network: NetworkSummary; seat: TrainerSeat },
): LinkPlan[] {
  if (config.syncBatchNormGroup === 1) return [];
  const { partials, groups } = groupPartials(config, seat);
  const runs = (of: { layers: number; channels: number }, times: number) => ({
    layers: of.layers * times,
    channels: of.channels * times,
  });
  const trunk = runs(network.batchNorm, config.crops.length), head = runs(network.headBatchNorm, 1);
  const layers = trunk.layers + head.layers, channels = trunk.channels + head.channels;
  // A count and C sums, then C squares, then 2 C sums.
  const bytes = 4 * (layers + 4 * channels);
  return [
    {
      from: "trainer",
      to: "sync",
      what: `batch-norm sums, groups of ${config.syncBatchNormGroup}`,
      messages: EXCHANGES * layers * partials,
      bytes: bytes * partials,
    },
    {
      from: "sync",
      to: "trainer",
      what: "batch-norm totals",
      messages: EXCHANGES * layers * groups,
      bytes: bytes * groups,
    },
  ];
}

/** All links of the trainer in `seat`. */
export function planTraffic(
  config: TrainConfig,
  { network, seat }: { network: NetworkSummary; seat: TrainerSeat },
): LinkPlan[] {
  const replicas = seat.high - seat.low;
  const { batchPerReplica: batch, data } = config;
  return [
    {
      from: "loader",
      to: "trainer",
      what: `decoded images, at most ${data.sideMax} px`,
      messages: replicas,
      bytes: replicas * batch * 3 * data.sideMax ** 2,
    },
    ...gradientLinks(config, { network, seat }),
    ...batchNormLinks(config, { network, seat }),
    ...methodLinks(config, { network, seat }),
  ];
}

/** What the method's loss has to know of the other replicas; nothing where it learns from labels. */
function methodLinks(
  config: TrainConfig,
  { network, seat }: { network: NetworkSummary; seat: TrainerSeat },
): LinkPlan[] {
  const replicas = seat.high - seat.low;
  const { batchPerReplica: batch, prototypes, assignCrops, queue, method } = config;
  if (method.name === "simclr") {
    const partials = worldPartials(config, seat);
    // Every row's embedding, then its log-sum.
    const bytes = 4 * 2 * globalBatch(config) * (network.headDims[network.headDims.length - 1] + 1);
    return [
      { from: "trainer", to: "sync", what: "embeddings and log-sums", messages: 2 * partials, bytes: bytes * partials },
      { from: "sync", to: "trainer", what: "those of all replicas", messages: 2, bytes },
    ];
  }
  if (method.name !== "swav") return [];
  const rows = batch + Math.floor(queue.length / config.replicas);
  return [
    {
      from: "trainer",
      to: "sinkhorn",
      what: "scores",
      messages: replicas,
      bytes: replicas * assignCrops.length * rows * prototypes.count * 4,
    },
    {
      from: "sinkhorn",
      to: "trainer",
      what: "codes",
      messages: replicas,
      bytes: replicas * assignCrops.length * batch * prototypes.count * 4,
    },
  ];
}
