/** The small runs that faults are tried on: a folder of made-up images and the configuration of a tiny network. */
import sharp from "sharp";
import { findPreset, parseConfig, type TrainConfig, type TrainConfigInput } from "../config.ts";

/** The tiny configuration on the images in `folder`, which runs lie beside. */
export function smallConfig(folder: string, name: string, changes: TrainConfigInput): TrainConfig {
  const tiny = findPreset("test-tiny");
  return parseConfig({
    ...tiny,
    ...changes,
    cluster: { ...tiny.cluster, syncShards: 2, restarts: 10, gpu: "deno", ...changes.cluster },
    data: { ...tiny.data, folder: `${folder}/images` },
    run: { folder, name },
  }, { source: "the small configuration" });
}

/** Makes a folder with 25 images for as long as `action` takes. */
export async function withImages<T>(action: (folder: string) => Promise<T>): Promise<T> {
  const folder = await Deno.makeTempDir({ prefix: "seer-chaos-" });
  try {
    await Deno.mkdir(`${folder}/images`);
    await writeImages(`${folder}/images`, 25);
    return await action(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function writeImages(folder: string, count: number): Promise<void> {
  for (let index = 0; index < count; index++) {
    const [width, height] = [20, 17 + index % 7];
    const pixels = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * (3 + index)) & 255);
    const png = await sharp(pixels, { raw: { width, height, channels: 3 } }).png().toBuffer();
    await Deno.writeFile(`${folder}/${index}.png`, png);
  }
}
