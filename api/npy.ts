/** Writes a matrix as NumPy's `.npy` (format 1.0: magic, version, a Python literal padded to 64 bytes, the numbers). */
import type { Matrix } from "../evaluate/matrix.ts";

/** The file's bytes: little-endian f32, `[rows, columns]`, row by row. */
export function npyOf({ data, rows, columns }: Matrix): Uint8Array<ArrayBuffer> {
  const text = `{'descr': '<f4', 'fortran_order': False, 'shape': (${rows}, ${columns}), }`;
  const length = Math.ceil((10 + text.length + 1) / 64) * 64;
  const bytes = new Uint8Array(length + 4 * data.length);
  bytes.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0]);
  const view = new DataView(bytes.buffer);
  view.setUint16(8, length - 10, true);
  bytes.set(new TextEncoder().encode(text.padEnd(length - 11) + "\n"), 10);
  data.forEach((value, i) => view.setFloat32(length + 4 * i, value, true));
  return bytes;
}
