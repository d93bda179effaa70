/** Small tools of the comparisons: a reference file's tensors as numbers, and the relative error. */
import { relativeError } from "../kernels/run.ts";
import type { ReferenceRow } from "./augment.ts";
import { readReference, type ReferenceFile, type ReferenceTensor } from "./read_reference.ts";

/** Named float tensors and the settings of one reference file. */
export interface ReferenceArrays {
  /** Numbers of a float32 tensor. */
  numbers(name: string): Float32Array<ArrayBuffer>;
  shape(name: string): readonly number[];
  /** Names with this prefix, without it, in the file's order. */
  namesUnder(prefix: string): string[];
  /** The raw tensor. */
  raw(name: string): ReferenceTensor;
  /** A setting. The caller says what it is. */
  setting<T>(name: string): T;
}

/** Reads `<folder>/<name>.safetensors`. */
export async function referenceArrays(folder: string, name: string): Promise<ReferenceArrays> {
  const { tensors, metadata }: ReferenceFile = await readReference(`${folder}/${name}.safetensors`);
  return {
    numbers: (key) => new Float32Array(tensors[key].bytes.buffer),
    shape: (key) => tensors[key].shape,
    namesUnder: (prefix) =>
      Object.keys(tensors).filter((key) => key.startsWith(prefix)).map((key) => key.slice(prefix.length)),
    raw: (key) => tensors[key],
    setting: <T>(key: string): T => JSON.parse(metadata[key]) as T,
  };
}

/** NCHW to NHWC. */
export function channelsLast(
  x: Float32Array<ArrayBuffer>,
  [images, channels, height, width]: readonly number[],
): Float32Array<ArrayBuffer> {
  const pixels = height * width;
  const result = new Float32Array(x.length);
  for (let n = 0, at = 0; n < images; n++) {
    for (let c = 0; c < channels; c++) {
      for (let p = 0; p < pixels; p++) result[(n * pixels + p) * channels + c] = x[at++];
    }
  }
  return result;
}

/** A row for arrays compared by relative error. */
export function row(
  name: string,
  { ours, reference, bound }: { ours: ArrayLike<number>; reference: ArrayLike<number>; bound: number },
): ReferenceRow {
  return { name, figure: relativeError(ours, reference), bound };
}

/** Throws, naming every row whose figure is not within its bound. */
export function assertRows(rows: readonly ReferenceRow[]): void {
  const failed = rows.filter(({ figure, bound }) => !(figure <= bound));
  if (rows.length === 0) throw new Error("The comparison must give rows, it gave none");
  if (failed.length > 0) {
    throw new Error(failed.map(({ name, figure, bound }) => `${name}: ${figure} must be at most ${bound}`).join("\n"));
  }
}
