/** Images that even a tiny network can tell apart, with classes and tags, for runs that have to learn something. */
import sharp from "sharp";
import type { TrainConfig } from "../../config.ts";
import { type RunPlace, withRuns } from "./runs.ts";

const classes = ["blue", "green", "red"];

/** Ten noisy images of each of three colours, one folder a colour; `tags.csv` gives each two tags, and some none. */
export async function withColours(
  test: (place: RunPlace, at: (config: TrainConfig, folder?: string) => TrainConfig) => Promise<void>,
) {
  await withRuns(async (place) => {
    const lines = ["path,labels"];
    for (const [c, name] of classes.entries()) {
      await Deno.mkdir(`${place.images}-classes/${name}`, { recursive: true });
      for (let i = 0; i < 10; i++) {
        const pixels = new Uint8Array(20 * 20 * 3);
        for (let at = 0; at < pixels.length; at++) pixels[at] = (at % 3 === 2 - c ? 170 : 20) + (at * (i + 7)) % 60;
        const png = await sharp(pixels, { raw: { width: 20, height: 20, channels: 3 } }).png().toBuffer();
        await Deno.writeFile(`${place.images}-classes/${name}/${i}.png`, png);
        lines.push(`${name}/${i}.png,${i === 9 ? "" : `${name};${i % 2 === 0 ? "even" : "odd"}`}`);
      }
    }
    await Deno.writeTextFile(`${place.images}-classes/tags.csv`, lines.join("\n"));
    await test(place, (config, file = "") => ({
      ...config,
      data: { ...config.data, folder: `${place.images}-classes${file}` },
    }));
  });
}
