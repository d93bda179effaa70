/** The command `quickstart`: images, a cluster, a small RegNetY, and the table that shows what it learnt. */
import { runFolder } from "../actors/run_identity.ts";
import { checkEvaluation } from "../api/evaluate_run.ts";
import { gpuEnvironment } from "../api/gpu_process.ts";
import { givenSecret } from "../api/join.ts";
import { checkRun } from "../api/preflight.ts";
import { duration } from "../api/progress.ts";
import type { CommandLine } from "./arguments.ts";
import { printEvaluation } from "./evaluate.ts";
import { exitCodeOf, printOutcome, runCommandLine, startOf } from "./pretrain.ts";

/** Runs the quickstart; resolves to the exit code. */
export async function quickstartCommand(line: CommandLine, argv: readonly string[]): Promise<number> {
  const startedAt = performance.now();
  const start = await startOf(line, "quickstart");
  await checkRun(start);
  const environment = await gpuEnvironment((text) => console.log(text));
  const outcome = await runCommandLine({ line, start, argv, environment, token: givenSecret(line.options) });
  if (outcome.outcome !== "finished") {
    printOutcome(outcome);
    return exitCodeOf(outcome);
  }
  const unlabelled = await whyUnlabelled(outcome.run);
  if (unlabelled === undefined) {
    await printEvaluation(outcome.run, {}).catch((error: unknown) => {
      printOutcome(outcome);
      console.error("the weights are there, but could not be evaluated:");
      throw error;
    });
  } else console.log(`\nno table: the network is trained, but there are no labels to judge it by\n${unlabelled}`);
  printOutcome(outcome);
  console.log(`took ${duration((performance.now() - startedAt) / 1000)}`);
  if (unlabelled === undefined) console.log(`evaluate again: deno task evaluate ${outcome.run}`);
  else console.log(`evaluate on labelled images: deno task evaluate ${outcome.run} --data DIR`);
  console.log(`train longer: deno task pretrain --preset quickstart --steps 2000${dataOption(line, start.config)}`);
  console.log(`your own images: deno task quickstart --data DIR`);
  return 0;
}

/** Why a run cannot be evaluated on its own images; nothing when it can. */
async function whyUnlabelled(run: string): Promise<string | undefined> {
  return await checkEvaluation(run).then(() => undefined, (error: Error) => error.message);
}

function dataOption(line: CommandLine, config: Parameters<typeof runFolder>[0]): string {
  return line.overrides.some(([key]) => key === "data" || key === "data.folder") ? ` --data ${config.data.folder}` : "";
}
