/** A run's files in a folder of their own, for benchmarks that time what is written to them. */
import { RunFiles } from "../actors/run_files.ts";
import type { TrainConfig } from "../config.ts";

/** Opens the files of a run with `config`; `remove` closes them and deletes the folder. */
export async function benchRunFiles(config: TrainConfig): Promise<{ files: RunFiles; remove: () => Promise<void> }> {
  const folder = await Deno.makeTempDir({ prefix: "seer-bench-" });
  const files = new RunFiles(folder, {
    run: "bench",
    createdAt: "",
    config,
    versions: {},
    arguments: [],
    seed: 0,
    adapters: {},
  });
  const remove = async () => {
    files.close();
    await Deno.remove(folder, { recursive: true });
  };
  return { files, remove };
}
