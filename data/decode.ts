/**
 * From encoded bytes to RGB pixels, on the CPU, by sharp (libvips): turned upright by EXIF, laid over a background, capped
 * before memory is taken, shrunk while loading. It knows formats and pixels, not where the bytes come from. Sharp needs
 * the permissions read, ffi and env.
 */
import sharp from "sharp";
import { UnreadableImageError } from "./source.ts";

/** A decoded image: rows from the top, pixels from the left, 3 bytes (red, green, blue) each. */
export interface DecodedImage {
  readonly width: number;
  readonly height: number;
  /** [height, width, 3] */
  readonly pixels: Uint8Array<ArrayBuffer>;
}

/** Options of {@linkcode decodeImage}. */
export interface DecodeOptions {
  /** Images with more pixels than this in their header are refused. @default 100000000 */
  pixelsMax?: number;
  /** Larger images are shrunk so that their longer side has this many pixels. @default 1024 */
  sideMax?: number;
  /** Colour under transparent pixels, [red, green, blue] from 0 to 255. @default [255, 255, 255] */
  background?: readonly [number, number, number];
}

// One image a thread: several images are decoded at once, and libvips' own threads would only compete with them.
sharp.concurrency(1);
sharp.cache(false);

/**
 * Decodes an image to RGB.
 *
 * @param bytes The encoded file.
 * @param name The image's name, for the error.
 * @throws {UnreadableImageError} When the bytes are no image, are cut short, or have too many pixels.
 */
export async function decodeImage(
  bytes: Uint8Array,
  { name = "", pixelsMax = 100_000_000, sideMax = 1024, background = [255, 255, 255] }: DecodeOptions & {
    name?: string;
  } = {},
): Promise<DecodedImage> {
  const [r, g, b] = background;
  try {
    const { data, info } = await sharp(bytes, { failOn: "error", limitInputPixels: pixelsMax, sequentialRead: true })
      .autoOrient()
      .resize({ width: sideMax, height: sideMax, fit: "inside", withoutEnlargement: true })
      .flatten({ background: { r, g, b } })
      .toColourspace("srgb")
      .removeAlpha()
      .raw({ depth: "uchar" })
      .toBuffer({ resolveWithObject: true });
    if (info.channels !== 3) throw new Error(`decoding gave ${info.channels} channels in place of 3`);
    const pixels = new Uint8Array(data.byteLength);
    pixels.set(data);
    return { width: info.width, height: info.height, pixels };
  } catch (error) {
    throw new UnreadableImageError(name, error instanceof Error ? error.message : String(error));
  }
}
