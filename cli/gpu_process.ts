/**
 * Runs a command of this program again in a child process whose environment shows the GPU driver: the Vulkan loader reads
 * LD_LIBRARY_PATH only when a process starts.
 */
import { ensureVulkan } from "../setup/vulkan.ts";

const mark = "SEER_GPU_ENVIRONMENT";

/** Whether this process was started with the environment that shows the GPU. */
export function seesGpu(): boolean {
  return Deno.env.get(mark) === "1";
}

/** The exit code of `main.ts` run with `args` where the GPU can be seen; output goes where this process's goes. */
export async function runWithGpu(args: readonly string[], environment?: Record<string, string>): Promise<number> {
  const env = environment ?? await ensureVulkan({ log: (line) => console.error(line) });
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-all", new URL("../main.ts", import.meta.url).href, ...args],
    env: { ...env, [mark]: "1" },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  return (await child.status).code;
}
