/**
 * SEER on Deno: self-supervised pretraining of RegNetY networks with SwAV, on a cluster of actors that compute on WebGPU.
 * An experiment is a short TypeScript file:
 *
 * ```ts
 * import { evaluateRun, formatReport, pretrain } from "./mod.ts";
 *
 * if (import.meta.main) {
 *   const { run } = await pretrain({ preset: "quickstart", data: { folder: "images" }, steps: 300 });
 *   console.log(formatReport(await evaluateRun(run)));
 * }
 * ```
 *
 * @module
 */
export type { ProbeRecord, RunEvent, RunFailure, StepRecord } from "./actors/events.ts";
export { readMetrics, readProbes } from "./actors/run_files.ts";
export { embedImages, type EmbedImagesOptions, imageFiles } from "./api/embed.ts";
export { evaluateProtocol, type EvaluateProtocolOptions, type FewImages } from "./api/evaluate_protocol.ts";
export { evaluateRun, type EvaluateRunOptions } from "./api/evaluate_run.ts";
export { type GridCell, type GridOptions, type GridRow, type GridSettings, runGrid } from "./api/grid.ts";
export { pretrain, type PretrainOptions, RunFailedError, type RunResult } from "./api/pretrain.ts";
export { type Recipe, resolveRecipe } from "./api/recipe.ts";
export { nearestNeighbours, type Neighbour, type NeighbourOptions } from "./api/search.ts";
export { type EmbedOptions, openTrunk, type OpenTrunkOptions, type Trunk } from "./api/trunk.ts";
export {
  type ExportFormat,
  exportWeights,
  importWeights,
  type OpenedWeights,
  openWeights,
  type WriteWeightsOptions,
  type WrittenWeights,
} from "./api/weights.ts";
export { CheckpointError } from "./checkpoint/error.ts";
export {
  ConfigError,
  defineConfig,
  globalBatch,
  loadConfig,
  type LoadOptions,
  modelNames,
  parseConfig,
  presets,
  totalSteps,
  type TrainConfig,
  type TrainConfigInput,
} from "./config.ts";
export {
  averagePrecision,
  type Mark,
  type MeanAveragePrecision,
  meanAveragePrecision,
  type PrecisionRule,
} from "./evaluate/average_precision.ts";
export { knnAccuracy, type KnnOptions, type Labelled } from "./evaluate/knn.ts";
export { linearProbe, type ProbeOptions } from "./evaluate/linear_probe.ts";
export { type Matrix, matrixFrom } from "./evaluate/matrix.ts";
export { formatProtocol } from "./evaluate/protocol_text.ts";
export { PROTOCOL_NAMES, type ProtocolResult, type ProtocolRow, type ProtocolSettings } from "./evaluate/protocols.ts";
export { type EvaluationReport, type EvaluationRow, formatReport } from "./evaluate/report.ts";
export { retrieval, type RetrievalOptions, type RetrievalResult } from "./evaluate/retrieval.ts";
export { formatPlan, type Plan, type PlanOptions, planRun } from "./plan.ts";
export { WeightsError } from "./weights/error.ts";
export { type Naming, namings } from "./weights/naming.ts";
export { type NetworkNames, networkNames } from "./weights/network.ts";
export type { WeightsReport } from "./weights/report.ts";
export { type NetworkWeights, readWeights, type ReadWeightsOptions } from "./weights/weights.ts";
