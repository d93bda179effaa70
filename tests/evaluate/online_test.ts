import { assertEquals } from "@std/assert";
import sharp from "sharp";
import type { ImageSource } from "../../data/source.ts";
import { evaluate } from "../../evaluate/evaluate.ts";
import { openImages } from "../../evaluate/features.ts";
import { judge } from "../../evaluate/online.ts";
import { pixelEmbedding } from "../../evaluate/pixels.ts";
import { planProtocol } from "../../evaluate/protocol.ts";
import { eachDevice } from "../devices.ts";

/** Noisy images of 12 × 12 pixels, each class with a brightness of its own. */
async function images(names: readonly string[]): Promise<ImageSource> {
  const files: Uint8Array<ArrayBuffer>[] = [];
  for (const [index] of names.entries()) {
    const pixels = Uint8Array.from({ length: 432 }, (_, i) => 60 * (index % 2) + ((i * 37 + index * 101) * 29) % 150);
    files.push(new Uint8Array(await sharp(pixels, { raw: { width: 12, height: 12, channels: 3 } }).png().toBuffer()));
  }
  return { size: names.length, name: (i) => names[i], read: (i) => Promise.resolve(files[i]) };
}

eachDevice("judge() gives the figures of evaluate(), for two sets and for a split folder", async (device) => {
  const folder = Array.from({ length: 24 }, (_, i) => `${"ab"[i % 2]}/${i}.png`);
  for (const names of [folder, folder.map((name, i) => `${i < 12 ? "train" : "test"}/${name}`)]) {
    const source = await images(names);
    const options = { device, images: openImages(source), protocol: planProtocol(source), size: 8 };
    const { rows: [row] } = await evaluate({
      ...options,
      candidates: [{ name: "pixels", embed: pixelEmbedding }],
      pixels: false,
    });
    const judged = (protocols: ("knn" | "linear")[]) => judge({ ...options, embed: pixelEmbedding, protocols });
    assertEquals(await judged(["linear", "knn"]), [
      { protocol: "linear", top1: row.linear },
      { protocol: "knn", top1: row.knn },
    ]);
    assertEquals(await judged(["knn"]), [{ protocol: "knn", top1: row.knn }]);
  }
});
