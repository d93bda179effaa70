/** The command `tune`: times the kernels that a run would use, ahead of it, and shows what was found. */
import { gpuEnvironment } from "../api/gpu_process.ts";
import { interruption } from "../api/run.ts";
import { settleKernels } from "../api/tuning.ts";
import { timingProcess, trainerAdapters } from "../api/tuning_process.ts";
import { kernelTable } from "../api/tuning_text.ts";
import { ConfigError, loadConfig } from "../config.ts";
import { probeAdapters } from "../setup/adapters.ts";
import type { CommandLine } from "./arguments.ts";

const print = (line: string) => console.log(line);

/**
 * Runs `tune`; resolves to the exit code.
 *
 * @throws {ConfigError} when no adapter fits the configuration.
 */
export async function tuneCommand({ options, overrides, operands }: CommandLine): Promise<number> {
  if (operands.length > 0) throw new ConfigError("", `tune takes options only, found "${operands[0]}"`);
  const preset = options.preset ?? (options.config === undefined ? "quickstart" : undefined);
  const config = await loadConfig({ preset, file: options.config, overrides });
  const environment = await gpuEnvironment(print);
  const { adapters, refusals } = await probeAdapters(environment);
  const found = await trainerAdapters(config.cluster, { adapters, gpuEnvironment: environment });
  if (found.length === 0) {
    const reasons = refusals.map(({ provider, reason }) => `${provider}: ${reason}`).join("; ");
    throw new ConfigError(
      "cluster.gpu",
      `cannot tune: no adapter fits the configuration (${reasons}); see deno task doctor`,
    );
  }
  using ctrlC = interruption(print, "stopping; what was timed is kept");
  for (const seen of found) {
    const time = timingProcess({ config, ...seen, signal: ctrlC.signal });
    const settled = await settleKernels({
      config,
      adapter: seen.adapter,
      mode: "on",
      again: options.again,
      time,
      log: print,
    });
    print(`\n${seen.adapter.name} through ${seen.adapter.provider}\n${kernelTable(settled.kernels)}`);
  }
  return ctrlC.signal.aborted ? 130 : 0;
}
