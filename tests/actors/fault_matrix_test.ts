/** Real processes that die at chosen moments, several in one run; the whole table is `deno task chaos --matrix`. */
import { assertEquals } from "@std/assert";
import { allCells, fewCells, nameOf, phases } from "../../tools/fault_cells.ts";
import { faultTour } from "../../tools/fault_tour.ts";
import { withImages } from "../../tools/small_run.ts";
import { gpuEnvironment } from "./runs.ts";

Deno.test("whoever dies, at whichever moment of a step, a checkpoint or a join, the weights are those of peace", async () => {
  const lines: string[] = [];
  const report = await withImages((folder) =>
    faultTour({
      folder,
      cells: fewCells,
      gpuEnvironment: gpuEnvironment(),
      peaceHere: true,
      log: (line) => lines.push(line),
    })
  );
  assertEquals(report.wrong, [], lines.join("\n"));
  assertEquals(report.cells.map(({ cell }) => nameOf(cell)), fewCells.map(nameOf), lines.join("\n"));
  assertEquals(report.found, report.expected, lines.join("\n"));
});

Deno.test("the table of faults has every role in every phase, none twice", () => {
  const names = allCells.map(nameOf);
  assertEquals(new Set(names).size, names.length);
  for (const victim of ["loader", "trainer of replica 0", "sync shard", "sinkhorn", "checkpointer", "local host"]) {
    const tried = allCells.filter((cell) => cell.victim === victim && cell.blow === "killed").map(({ phase }) => phase);
    assertEquals(tried.toSorted(), [...phases].sort(), victim);
  }
});
