/**
 * What a source of images is: numbered, named, encoded images, with labels where they are known. A source hands out bytes
 * as they are stored; it knows no decoding, sampling or training.
 */

/** A fixed, ordered set of encoded images (JPEG, PNG, WebP, …). */
export interface ImageSource {
  /** Number of images. */
  readonly size: number;
  /** Names of the classes, by label; absent when there are no labels. */
  readonly classes?: readonly string[];
  /** The name of image `i`: unique in the source and the same on every host. */
  name(i: number): string;
  /**
   * The encoded bytes of image `i`.
   *
   * Rejects with {@linkcode UnreadableImageError} when this one image is bad for good; any other error means that the
   * source itself is in trouble.
   */
  read(i: number): Promise<Uint8Array<ArrayBuffer>>;
  /** The label of image `i`, an index into `classes`. */
  label?(i: number): number;
}

/** One image cannot be read or decoded; the source goes on without it. */
export class UnreadableImageError extends Error {
  override readonly name = "UnreadableImageError";
  /** The image's name in its source. */
  readonly image: string;
  /** What is wrong with it. */
  readonly reason: string;

  constructor(image: string, reason: string) {
    super(`Cannot read image "${image}": ${reason}`);
    this.image = image;
    this.reason = reason;
  }
}
