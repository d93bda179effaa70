/** Grids: resuming, keys, tables and plots, with functions in place of training. */
import { assertEquals, assertNotEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "node:path";
import { gridKey, gridRows, gridTable, runGrid } from "../../api/grid.ts";

const cells = [{ name: "a", settings: { size: 1 } }, { name: "b<c", settings: { size: 2 } }];

Deno.test("a broken grid runs only what its journal lacks and ends with the files of an unbroken one", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const ran: string[] = [];
    const options = (out: string, breakAt: string) => ({
      title: "Size",
      measure: "top-1",
      cells,
      seeds: [1, 2],
      out: join(folder, out),
      run: ({ size }: { size: number }, seed: number) => {
        if (`${size}/${seed}` === breakAt) return Promise.reject(new Error("power cut"));
        ran.push(`${size}/${seed}`);
        return Promise.resolve(size + seed / 10);
      },
    });
    await assertRejects(() => runGrid(options("broken", "2/1")), Error, "power cut");
    assertEquals(ran, ["1/1", "1/2"]);
    await runGrid(options("broken", ""));
    assertEquals(ran, ["1/1", "1/2", "2/1", "2/2"]);
    await runGrid(options("whole", ""));
    for (const name of ["journal.jsonl", "table.md", "table.json", "plot.svg"]) {
      const [broken, whole] = ["broken", "whole"].map((out) => Deno.readTextFileSync(join(folder, out, name)));
      assertEquals(broken, whole, name);
    }
    const svg = Deno.readTextFileSync(join(folder, "broken", "plot.svg"));
    assertEquals(svg.split("<circle").length - 1, 4);
    assertStringIncludes(svg, "b&lt;c");
    assertEquals([...Deno.readDirSync(join(folder, "broken"))].length, 4);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a cell's key ignores the order of names and tells settings and seeds apart", async () => {
  assertEquals(await gridKey({ a: 1, b: { c: 2, d: 3 } }, 1), await gridKey({ b: { d: 3, c: 2 }, a: 1 }, 1));
  assertNotEquals(await gridKey({ a: 1 }, 1), await gridKey({ a: 2 }, 1));
  assertNotEquals(await gridKey({ a: 1 }, 1), await gridKey({ a: 1 }, 2));
});

Deno.test("a row has the mean and the sample standard deviation; one seed has no spread", () => {
  const entry = (cell: string, seed: number, value: number) => ({ key: `${cell}${seed}`, cell, seed, value });
  const rows = gridRows([entry("a", 1, 1), entry("a", 2, 3), entry("b", 1, 5)]);
  assertEquals(rows.map(({ mean, deviation }) => [mean, deviation]), [[2, Math.SQRT2], [5, 0]]);
  assertStringIncludes(gridTable(rows, "top-1"), "| b | 5.0000 | one seed | 1 |");
});

Deno.test("a grid refuses repeated seeds, values that are not finite and a damaged journal", async () => {
  const out = await Deno.makeTempDir();
  try {
    const options = { title: "", measure: "", cells, seeds: [1], out, run: () => Promise.resolve(NaN) };
    await assertRejects(() => runGrid({ ...options, seeds: [1, 1] }), Error, "seeds must differ, found 1 twice");
    await assertRejects(() => runGrid(options), Error, "a finite value is needed, found NaN");
    await Deno.writeTextFile(join(out, "journal.jsonl"), "{");
    await assertRejects(() => runGrid(options), Error, "line 1 of");
  } finally {
    await Deno.remove(out, { recursive: true });
  }
});
