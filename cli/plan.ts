/** The command `plan`: what a run would cost, without a GPU. */
import { loadConfig } from "../config.ts";
import { formatPlan, planRun } from "../plan.ts";
import type { CommandLine } from "./arguments.ts";

/** Prints the plan of a configuration; resolves to the exit code. */
export async function planCommand({ options, overrides }: CommandLine): Promise<number> {
  const config = await loadConfig({ preset: options.preset ?? "quickstart", file: options.config, overrides });
  console.log(formatPlan(planRun(config)));
  return 0;
}
