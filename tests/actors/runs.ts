/** Small whole runs for tests: a folder of made-up images, a tiny configuration, a run with all its events. */
import sharp from "sharp";
import { type ClusterOptions, runCluster, type RunOutcome } from "../../actors/cluster.ts";
import type { RunEvent, StepRecord } from "../../actors/events.ts";
import { isZombie, lives } from "../../actors/runtime/spawn.ts";
import { findPreset, parseConfig, type TrainConfig, type TrainConfigInput } from "../../config.ts";

/** Variables of this process that decide which Vulkan driver is found. */
const gpuVariables = [
  "VK_DRIVER_FILES",
  "VK_ICD_FILENAMES",
  "LD_LIBRARY_PATH",
  "XDG_RUNTIME_DIR",
  "MESA_SHADER_CACHE_DIR",
];

/** The environment that trainers' processes need for the GPU that this process sees. */
export function gpuEnvironment(): Record<string, string> {
  const found = gpuVariables.map((name) => [name, Deno.env.get(name)] as const);
  return Object.fromEntries(found.filter((entry): entry is [string, string] => entry[1] !== undefined));
}

/** Writes `count` colourful PNG files of 20 × 17 … 23 pixels into `folder`. */
export async function writeImages(folder: string, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const width = 20, height = 17 + index % 7;
    const pixels = new Uint8Array(width * height * 3);
    for (let i = 0; i < pixels.length; i++) pixels[i] = (i * (3 + index) + 40 * Math.sin(i / (2 + index % 5))) & 255;
    const png = await sharp(pixels, { raw: { width, height, channels: 3 } }).png().toBuffer();
    await Deno.writeFile(`${folder}/image-${String(index).padStart(3, "0")}.png`, png);
  }
}

/** Folders of a test, removed at its end: images, and runs beside them. */
export interface RunPlace {
  readonly images: string;
  /** The tiny configuration with changes; every call names a run of its own unless `name` is given. */
  config(changes?: TrainConfigInput, name?: string): TrainConfig;
}

/** Makes the folders, with 25 images, for as long as `test` takes. */
export async function withRuns(test: (place: RunPlace) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "cluster-test-" });
  let runs = 0;
  try {
    const images = `${folder}/images`;
    await Deno.mkdir(images);
    await writeImages(images, 25);
    await test({
      images,
      config(changes = {}, name = `run-${runs++}`) {
        const tiny = findPreset("test-tiny");
        const cluster = { gpu: "deno" as const, ...tiny.cluster, restarts: 0, ...changes.cluster };
        return parseConfig({
          ...tiny,
          ...changes,
          cluster,
          data: { ...tiny.data, folder: images },
          run: { folder: `${folder}/runs`, name },
        }, { source: "the test's configuration" });
      },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Whether a process runs; one that has ended and that its parent has not looked at yet does not. */
export async function alive(pid: number): Promise<boolean> {
  return lives(pid) && !await isZombie(pid);
}

/** A run that has ended, with all that it told. */
export interface RunResult {
  readonly outcome: RunOutcome;
  readonly events: readonly RunEvent[];
  readonly records: readonly StepRecord[];
}

/** Runs to the end. */
export async function run(options: ClusterOptions): Promise<RunResult> {
  const events: RunEvent[] = [];
  const outcome = await runCluster({
    gpuEnvironment: gpuEnvironment(),
    ...options,
    onEvent(event) {
      events.push(event);
      options.onEvent?.(event);
    },
  });
  return { outcome, events, records: events.flatMap((event) => event.kind === "step" ? [event.record] : []) };
}

/** The digest of a run's final weights; throws with the cause when it failed. */
export function digestOf({ outcome }: RunResult): string {
  if (outcome.outcome !== "failed") return outcome.digest;
  const { actor, host, error, lines } = outcome.failure;
  throw new Error(`${actor} on ${host}: ${error}\n${lines.join("\n")}`);
}
