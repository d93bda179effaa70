/** Features as one Parquet file: a row per image with its name and its features. Knows neither networks nor folders. */
import { parquetWriteBuffer } from "hyparquet-writer";
import type { Matrix } from "../evaluate/matrix.ts";

/**
 * Bytes of a Parquet file with columns `file` (string) and `features` (list of `[C]` float32), row i for `files[i]`.
 *
 * @throws {RangeError} when names and rows differ in number
 */
export function parquetOf({ data, rows, columns }: Matrix, files: readonly string[]): Uint8Array {
  if (files.length !== rows) {
    throw new RangeError(
      `Cannot write Parquet: a name per row is needed, found ${files.length} names for ${rows} rows`,
    );
  }
  const features = files.map((_, row) => Array.from(data.subarray(row * columns, (row + 1) * columns)));
  const buffer = parquetWriteBuffer({
    columnData: [{ name: "file", data: [...files] }, { name: "features", data: features }],
    schema: [
      { name: "root", num_children: 2 },
      { name: "file", type: "BYTE_ARRAY", converted_type: "UTF8", repetition_type: "REQUIRED" },
      { name: "features", repetition_type: "REQUIRED", num_children: 1, converted_type: "LIST" },
      { name: "list", repetition_type: "REPEATED", num_children: 1 },
      { name: "element", type: "FLOAT", repetition_type: "REQUIRED" },
    ],
  });
  return new Uint8Array(buffer);
}
