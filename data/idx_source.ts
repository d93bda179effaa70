/**
 * Images in the idx files of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist/: a magic number that tells type and
 * dimensions, sizes as big-endian u32, bytes), gzipped or not. Reading an image encodes it as PNG, because a source hands
 * out encoded bytes. It knows no training.
 */
import sharp from "sharp";
import { LabelError, type LabelledImages } from "./labelled.ts";

const FILES = [
  { split: "train", images: "train-images-idx3-ubyte", labels: "train-labels-idx1-ubyte" },
  { split: "test", images: "t10k-images-idx3-ubyte", labels: "t10k-labels-idx1-ubyte" },
] as const;

/** Most bytes of one file after decompression: 1 GiB; Fashion-MNIST's largest has 47 MB. */
const BYTES_MAX = 1 << 30;

/** Names of Fashion-MNIST's classes, in the order of its labels (Xiao et al., 2017). */
export const FASHION_MNIST_CLASSES: readonly string[] = [
  "T-shirt",
  "Trouser",
  "Pullover",
  "Dress",
  "Coat",
  "Sandal",
  "Shirt",
  "Sneaker",
  "Bag",
  "Ankle boot",
];

/** An array of unsigned bytes. */
interface Idx {
  readonly shape: readonly number[];
  readonly data: Uint8Array<ArrayBuffer>;
}

/** Whether a folder holds idx files. */
export async function isIdxFolder(path: string): Promise<boolean> {
  return await findFile(path, FILES[0].images) !== undefined;
}

async function findFile(folder: string, name: string): Promise<string | undefined> {
  for (const file of [`${folder}/${name}`, `${folder}/${name}.gz`]) {
    if (await Deno.stat(file).then(({ isFile }) => isFile, () => false)) return file;
  }
  return undefined;
}

async function inflate(file: string): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = await Deno.readFile(file);
  if (!file.endsWith(".gz")) return bytes;
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let total = 0;
  for await (const part of new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))) {
    total += part.length;
    if (total > BYTES_MAX) throw new LabelError(file, `it inflates to more than ${BYTES_MAX} bytes`);
    parts.push(part);
  }
  const whole = new Uint8Array(total);
  parts.reduce((at, part) => (whole.set(part, at), at + part.length), 0);
  return whole;
}

/**
 * Reads an idx array of unsigned bytes.
 *
 * @throws {LabelError} when the bytes are none
 */
export function readIdx(bytes: Uint8Array<ArrayBuffer>, { name, rank }: { name: string; rank: number }): Idx {
  const header = 4 + 4 * rank;
  if (bytes.length < header || bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 8 || bytes[3] !== rank) {
    throw new LabelError(name, `an idx file of unsigned bytes with ${rank} dimensions is needed, it has another head`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const shape = Array.from({ length: rank }, (_, axis) => view.getUint32(4 + 4 * axis));
  const length = shape.reduce((product, size) => product * size, 1);
  if (bytes.length !== header + length) {
    throw new LabelError(name, `its head tells ${header + length} bytes, it has ${bytes.length}; fetch it again`);
  }
  return { shape, data: bytes.subarray(header) };
}

async function readPart(folder: string, { split, images, labels }: typeof FILES[number]) {
  const read = async (name: string, rank: number) => {
    const file = await findFile(folder, name);
    if (file === undefined) throw new LabelError(folder, `${name} or ${name}.gz is missing`);
    const bytes = await inflate(file).catch((error: unknown) => {
      throw error instanceof TypeError ? new LabelError(file, `it is no gzip file: ${error.message}`) : error;
    });
    return readIdx(bytes, { name: file, rank });
  };
  const pixels = await read(images, 3), classes = await read(labels, 1);
  if (pixels.shape[0] !== classes.shape[0]) {
    throw new LabelError(folder, `${images} has ${pixels.shape[0]} images, ${labels} ${classes.shape[0]} labels`);
  }
  return { split, pixels, labels: classes.data };
}

/**
 * Opens a folder of idx files (`train-images-idx3-ubyte` and its three companions, each with or without `.gz`); it is held
 * in memory. Images are called `train/00042-3`: part, number, label.
 *
 * @throws {LabelError} when a file is missing, damaged, or the files do not belong together
 */
export async function openIdx(path: string): Promise<LabelledImages & { label(i: number): number }> {
  const parts = [await readPart(path, FILES[0]), await readPart(path, FILES[1])];
  const size = parts.reduce((sum, { labels }) => sum + labels.length, 0);
  const find = (i: number) =>
    i < parts[0].labels.length ? { ...parts[0], at: i } : { ...parts[1], at: i - parts[0].labels.length };
  const classCount = parts.reduce((most, { labels }) => labels.reduce((a, b) => Math.max(a, b), most), 0) + 1;
  // The files do not tell clothes from digits; the folder's name usually does.
  const isFashion = classCount === FASHION_MNIST_CLASSES.length && /fashion/i.test(path);
  const label = (i: number) => {
    const { labels, at } = find(i);
    return labels[at];
  };
  return {
    size,
    classes: isFashion ? FASHION_MNIST_CLASSES : Array.from({ length: classCount }, (_, c) => String(c)),
    labelling: "single",
    label,
    labelsOf: (i) => [label(i)],
    splitOf: (i) => find(i).split,
    name(i) {
      const { split, at } = find(i);
      return `${split}/${String(at).padStart(5, "0")}-${label(i)}`;
    },
    async read(i) {
      const { pixels, at } = find(i);
      const [, height, width] = pixels.shape;
      const raw = pixels.data.subarray(at * height * width, (at + 1) * height * width);
      const png = await sharp(raw, { raw: { width, height, channels: 1 } }).png({ compressionLevel: 0 }).toBuffer();
      return new Uint8Array(png);
    },
  };
}
