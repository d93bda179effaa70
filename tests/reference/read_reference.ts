/** Reads the files that generate.py wrote, with nothing of the product: a reader shared with the code proves less. */

/** One tensor of a file: its raw little-endian bytes. */
export interface ReferenceTensor {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** A whole file; every value of `metadata` is JSON text. */
export interface ReferenceFile {
  readonly tensors: Readonly<Record<string, ReferenceTensor>>;
  readonly metadata: Readonly<Record<string, string>>;
}

interface Header {
  readonly [name: string]: {
    readonly dtype: string;
    readonly shape: number[];
    readonly data_offsets: [number, number];
  };
}

/** Reads one .safetensors file. */
export async function readReference(path: string): Promise<ReferenceFile> {
  const file = await Deno.readFile(path);
  const headerLength = Number(new DataView(file.buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(file.subarray(8, 8 + headerLength));
  const { __metadata__: metadata = {}, ...header } = JSON.parse(text) as Header & {
    __metadata__: Record<string, string>;
  };
  const tensors: Record<string, ReferenceTensor> = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(header as Header)) {
    tensors[name] = { dtype, shape, bytes: file.slice(8 + headerLength + start, 8 + headerLength + end) };
  }
  return { tensors, metadata };
}
