/** Reads one image's file: what is wrong with this file alone is told apart from what is wrong with the source. */
import { UnreadableImageError } from "./source.ts";

/** Largest file taken for an image unless told otherwise: 256 MiB. */
export const FILE_BYTES_MAX = 268_435_456;

/**
 * The bytes of a file.
 *
 * @param name what the source calls the image, for the error.
 * @throws {UnreadableImageError} when the file is gone, may not be read, or has more than `fileBytesMax` bytes
 */
export async function readImageFile(
  path: string,
  { name, fileBytesMax = FILE_BYTES_MAX }: { name: string; fileBytesMax?: number },
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { size } = await Deno.stat(path);
    if (size > fileBytesMax) {
      throw new UnreadableImageError(name, `the file has ${size} bytes, more than ${fileBytesMax}`);
    }
    return await Deno.readFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) throw new UnreadableImageError(name, "the file is gone");
    if (error instanceof Deno.errors.PermissionDenied) {
      throw new UnreadableImageError(name, "no permission to read the file");
    }
    throw error;
  }
}
