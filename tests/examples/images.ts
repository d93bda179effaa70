/** Folders of generated images for tests that run the whole program. */
import sharp from "sharp";

/** Writes `count` PNGs of 40 pixels, shared out among sub-folders when there are `categories`. */
export async function makeImages(folder: string, options: { count: number; categories?: number }): Promise<void> {
  const { count, categories = 0 } = options;
  const side = 40;
  for (let image = 0; image < count; image++) {
    const kind = categories === 0 ? 0 : image % categories;
    const parent = categories === 0 ? folder : `${folder}/category-${kind}`;
    await Deno.mkdir(parent, { recursive: true });
    // Stripes: their spacing is the category, their colour the image.
    const pixels = Uint8Array.from({ length: 3 * side * side }, (_, at) => (at * (1 + kind) + image * 31) % 256);
    await sharp(pixels, { raw: { width: side, height: side, channels: 3 } }).png().toFile(`${parent}/${image}.png`);
  }
}
