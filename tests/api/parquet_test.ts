/** Features as Parquet, read back by another library. */
import { assertEquals, assertThrows } from "@std/assert";
import { parquetReadObjects } from "hyparquet";
import { parquetOf } from "../../api/parquet.ts";
import { matrixFrom } from "../../evaluate/matrix.ts";

Deno.test("a Parquet file of features reads back as names and the same float32 bits", async () => {
  const data = Float32Array.from([0.1, -2, 1e-20, 3.5, Math.PI, -0]);
  const bytes = parquetOf(matrixFrom(data, 3), ["a.png", "é b.png"]);
  const file = new Uint8Array(bytes).buffer;
  const rows = await parquetReadObjects({ file });
  assertEquals(rows.map((row) => row.file), ["a.png", "é b.png"]);
  assertEquals(rows.map((row) => Array.from(row.features)), [[...data.subarray(0, 3)], [...data.subarray(3)]]);
});

Deno.test("a Parquet file needs a name per row", () => {
  assertThrows(() => parquetOf(matrixFrom(new Float32Array(4), 2), ["a"]), RangeError, "found 1 names for 2 rows");
});
