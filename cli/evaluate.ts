/** The command `evaluate`: k-NN, linear probe and retrieval of a run's trunk beside a random one and raw pixels. */
import { buildModel } from "../actors/engine/build.ts";
import { f32Of } from "../checkpoint/safetensors.ts";
import { DirectoryStore } from "../checkpoint/store.ts";
import { ConfigError, type TrainConfig } from "../config.ts";
import { openFolder } from "../data/folder_source.ts";
import { openDevice } from "../device/open.ts";
import type { Device } from "../device/device.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import { moduleEmbedding, openImages } from "../evaluate/features.ts";
import { planProtocol } from "../evaluate/protocol.ts";
import { type EvaluationReport, formatReport } from "../evaluate/report.ts";
import { loadStateDict } from "../nn/state_dict.ts";
import type { SwavModel } from "../swav/model.ts";
import type { CommandLine } from "./arguments.ts";
import { runWithGpu, seesGpu } from "./gpu_process.ts";
import { readRunConfig } from "./run_folder.ts";

/** Runs `evaluate RUN`; resolves to the exit code. */
export async function evaluateCommand(line: CommandLine, argv: readonly string[]): Promise<number> {
  const [folder] = line.operands;
  if (folder === undefined) {
    throw new ConfigError("run", "evaluate needs the folder of a run: deno task evaluate runs/NAME");
  }
  if (!seesGpu()) return await runWithGpu(argv);
  const config = await readRunConfig(folder);
  const data = line.overrides.find(([key]) => key === "data" || key === "data.folder")?.[1] ?? config.data.folder;
  const report = await evaluateRun(folder, { config, data });
  console.log(formatReport(report));
  if (line.options.json !== undefined) {
    await Deno.writeTextFile(line.options.json, JSON.stringify(report, null, 2) + "\n");
  }
  return 0;
}

/** Evaluates a run's newest checkpoint on a folder of labelled images, and writes `RUN/evaluation.json`. */
export async function evaluateRun(
  folder: string,
  { config, data }: { config: TrainConfig; data: string },
): Promise<EvaluationReport> {
  const source = await openFolder(data);
  // A folder without labels is refused before a device is opened.
  const protocol = planProtocol(source, { name: data });
  const { gpu } = config.cluster;
  const device = await openDevice({ provider: gpu });
  try {
    const trained = await loadRun(device, folder, config);
    const random = buildModel(device, config);
    const report = await evaluate({
      device,
      images: openImages(source, { sideMax: config.data.sideMax }),
      protocol,
      size: evaluationSize(config),
      normalisation: { mean: config.augmentation.mean, std: config.augmentation.std },
      candidates: [
        { name: "trained", embed: moduleEmbedding(trained.trunk) },
        { name: "random", embed: moduleEmbedding(random.trunk) },
      ],
    });
    await Deno.writeTextFile(`${folder}/evaluation.json`, JSON.stringify(report, null, 2) + "\n");
    return report;
  } finally {
    device.destroy();
  }
}

/** The network of a run with the weights of its newest valid checkpoint. */
export async function loadRun(device: Device, folder: string, config: TrainConfig): Promise<SwavModel> {
  const { model: tensors, notes } = await new DirectoryStore(folder).load("latest");
  for (const note of notes) console.error(note);
  const model = buildModel(device, config);
  const dict = new Map([...tensors].map(([name, tensor]) => [name, { shape: tensor.shape, data: f32Of(tensor) }]));
  loadStateDict({ parameters: () => [...model.parameters], buffers: () => [...model.buffers] }, dict);
  return model;
}

/** Networks are judged at the largest crop's size. */
function evaluationSize(config: TrainConfig): number {
  return Math.max(...config.crops.map((crop) => crop.size));
}
