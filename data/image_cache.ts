/** A bounded memory of decoded images: the least recently used go first. It knows sizes and ids, nothing of files. */
import type { DecodedImage } from "./decode.ts";

/** Decoded images by sample id, never more than `bytesMax` bytes of pixels. */
export class ImageCache {
  readonly bytesMax: number;
  readonly #images = new Map<number, DecodedImage>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
  }

  /** Bytes of pixels held. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The image, which becomes the most recently used; undefined when it is not held. */
  get(id: number): DecodedImage | undefined {
    const image = this.#images.get(id);
    if (image !== undefined) {
      this.#images.delete(id);
      this.#images.set(id, image);
    }
    return image;
  }

  /** Holds the image, letting go of others as needed; an image larger than the whole cache is not held. */
  set(id: number, image: DecodedImage): void {
    this.#drop(id);
    if (image.pixels.byteLength > this.bytesMax) return;
    this.#images.set(id, image);
    this.#bytes += image.pixels.byteLength;
    for (const oldest of this.#images.keys()) {
      if (this.#bytes <= this.bytesMax) break;
      this.#drop(oldest);
    }
  }

  #drop(id: number): void {
    const image = this.#images.get(id);
    if (image === undefined) return;
    this.#images.delete(id);
    this.#bytes -= image.pixels.byteLength;
  }
}
