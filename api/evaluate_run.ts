/** Evaluation of a run in a process that sees the GPU. What is measured is decided in `evaluate/`. */
import { resolve } from "node:path";
import { ConfigError } from "../config.ts";
import { openFolder } from "../data/folder_source.ts";
import { planProtocol } from "../evaluate/protocol.ts";
import type { EvaluationReport } from "../evaluate/report.ts";
import { DirectoryStore } from "../checkpoint/store.ts";
import { GpuClient, type OnProgress } from "./gpu_client.ts";
import { readRunConfig } from "./run_folder.ts";

/** Options of {@linkcode evaluateRun}. */
export interface EvaluateRunOptions {
  /** Folder of labelled images. @default the run's own images */
  readonly data?: string;
  /** Told what is being extracted: `"trained"`, `"random"`, `"pixels"`, images done, images in all. */
  readonly onProgress?: OnProgress;
  /** Told what is worth knowing while a driver is looked for. @default nobody */
  readonly log?: (line: string) => void;
}

/**
 * k-NN and linear-probe accuracy, and cross-set retrieval where the folder has two sets of the same things, of a run's
 * trunk beside the same trunk at random initialisation and raw pixels. Writes `RUN/evaluation.json` too.
 *
 * @param run the run's folder.
 * @throws {ConfigError} when `run` is no run.
 * @throws {Error} when the images have no labels, which is found before a device is opened.
 */
export async function evaluateRun(run: string, options: EvaluateRunOptions = {}): Promise<EvaluationReport> {
  const { onProgress, log = () => {} } = options;
  const folder = resolve(run);
  const data = await checkEvaluation(folder, options.data);
  const client = await GpuClient.start(log);
  try {
    const { answer } = await client.request({ kind: "evaluate", run: folder, data }, onProgress);
    if (answer.kind !== "report") throw new TypeError(`expected a report, found ${answer.kind}`);
    return answer.report;
  } finally {
    await client.close();
  }
}

/**
 * Refuses what cannot be evaluated, without a device: the folder of images that will be used.
 *
 * @throws {ConfigError} when `run` is no run.
 * @throws {CheckpointError} when the run has no checkpoint yet.
 * @throws {Error} when the images are missing or have no labels.
 */
export async function checkEvaluation(run: string, data?: string): Promise<string> {
  const config = await readRunConfig(run);
  const folder = resolve(data ?? config.data.folder);
  planProtocol(await openFolder(folder), { name: folder });
  if ((await new DirectoryStore(run).steps()).length === 0) {
    throw new ConfigError("run", `cannot evaluate ${run}: it has no checkpoint yet`);
  }
  return folder;
}
