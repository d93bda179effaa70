/**
 * Child processes whose environment shows the GPU driver: the Vulkan loader reads LD_LIBRARY_PATH only when a process
 * starts, so a process that was started without it cannot compute. It knows no command and no request.
 */
import { ensureVulkan } from "../setup/vulkan.ts";

const mark = "SEER_GPU_ENVIRONMENT";

/** Whether this process was started with the environment that shows the GPU. */
export function seesGpu(): boolean {
  return Deno.env.get(mark) === "1";
}

/** The variables of a process that uses the GPU, found once per process. */
export function gpuEnvironment(log: (line: string) => void): Promise<Readonly<Record<string, string>>> {
  if (seesGpu()) return Promise.resolve({});
  return found ??= ensureVulkan({ log }).catch((error: unknown) => {
    found = undefined;
    throw error;
  });
}

let found: Promise<Readonly<Record<string, string>>> | undefined;

/** Options of {@linkcode gpuCommand}. */
export interface GpuCommandOptions {
  /** Module to run, below this folder's parent. */
  readonly entry: "main.ts" | "api/gpu_child.ts";
  readonly args: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  readonly stdin: "inherit" | "piped";
  readonly stdout: "inherit" | "piped";
}

/** Starts one of this program's modules where the GPU can be seen; its errors go where this process's go. */
export function gpuCommand(options: GpuCommandOptions): Deno.ChildProcess {
  const { entry, args, environment, stdin, stdout } = options;
  const root = new URL("..", import.meta.url);
  const config = root.protocol === "file:" ? [`--config=${decodeURIComponent(root.pathname)}deno.json`] : [];
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-prompt", ...config, "--allow-all", new URL(entry, root).href, ...args],
    env: { ...environment, [mark]: "1" },
    stdin,
    stdout,
    stderr: "inherit",
  }).spawn();
}

/** The exit code of `main.ts` run with `args` where the GPU can be seen; output goes where this process's goes. */
export async function runWithGpu(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): Promise<number> {
  const child = gpuCommand({ entry: "main.ts", args, environment, stdin: "inherit", stdout: "inherit" });
  // Ctrl-C in a terminal reaches the child too, which decides what it means.
  const wait = () => {};
  Deno.addSignalListener("SIGINT", wait);
  const terminate = () => child.kill("SIGTERM");
  Deno.addSignalListener("SIGTERM", terminate);
  try {
    return (await child.status).code;
  } finally {
    Deno.removeSignalListener("SIGINT", wait);
    Deno.removeSignalListener("SIGTERM", terminate);
  }
}
