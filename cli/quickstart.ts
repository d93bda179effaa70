/** The command `quickstart`: images, a cluster, a small RegNetY, and the table that shows what it learnt. */
import type { CommandLine } from "./arguments.ts";
import { runWithGpu } from "./gpu_process.ts";
import { exitCodeOf, printOutcome, quickstartImages, runToTheEnd } from "./pretrain.ts";
import { duration } from "./progress.ts";
import { startOf } from "./run_folder.ts";
import { ensureVulkan } from "../setup/vulkan.ts";

/** Runs the quickstart; resolves to the exit code. */
export async function quickstartCommand(line: CommandLine, argv: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  const gpuEnvironment = await ensureVulkan({ log: (text) => console.log(text) });
  const start = await startOf(line, { preset: "quickstart", now: new Date(), defaultFolder: quickstartImages });
  const outcome = await runToTheEnd({ start, gpuEnvironment, arguments: argv });
  if (outcome.outcome !== "finished") {
    printOutcome(outcome);
    return exitCodeOf(outcome);
  }
  console.log("\nevaluating: features of every image, without labels in pretraining");
  const code = await runWithGpu(["evaluate", outcome.run], gpuEnvironment);
  printOutcome(outcome);
  if (code !== 0) {
    console.log("the weights are there, but could not be evaluated; the message above says why");
    return code;
  }
  console.log(`took ${duration((performance.now() - startedAt) / 1000)}`);
  console.log(`evaluate again: deno task evaluate ${outcome.run}`);
  console.log(`train longer: deno task pretrain --preset quickstart --steps 2000`);
  console.log(`your own images: deno task quickstart --data DIR`);
  return 0;
}
