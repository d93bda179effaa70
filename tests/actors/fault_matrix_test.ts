/** Real processes that die at chosen moments, several in one run; the whole table is `deno task chaos --matrix`. */
import { assertEquals } from "@std/assert";
import {
  allCells,
  type Cell,
  controllerPhases,
  fewCells,
  fewControllerCells,
  nameOf,
  phases,
} from "../../tools/fault_cells.ts";
import { faultTour } from "../../tools/fault_tour.ts";
import { withImages } from "../../tools/small_run.ts";
import { gpuEnvironment } from "./runs.ts";

/** Takes a run through the cells and compares it with one in peace. */
async function assertWeightsOfPeace(cells: readonly Cell[]): Promise<void> {
  const lines: string[] = [];
  const report = await withImages((folder) =>
    faultTour({ folder, cells, gpuEnvironment: gpuEnvironment(), peaceHere: true, log: (line) => lines.push(line) })
  );
  assertEquals(report.wrong, [], lines.join("\n"));
  assertEquals(report.cells.map(({ cell }) => nameOf(cell)), cells.map(nameOf), lines.join("\n"));
  assertEquals(report.found, report.expected, lines.join("\n"));
}

Deno.test("whoever dies, at whichever moment of a step, a checkpoint or a join, the weights are those of peace", async () => {
  await assertWeightsOfPeace(fewCells);
});

Deno.test("a controller that dies around a commit, beside a checkpoint or while it takes over is taken over from, and the weights are those of peace", async () => {
  await assertWeightsOfPeace(fewControllerCells);
});

Deno.test("the table of faults has every role in every phase, none twice", () => {
  const names = allCells.map(nameOf);
  assertEquals(new Set(names).size, names.length);
  const tried = (victim: string) =>
    allCells.filter((cell) => cell.victim === victim && cell.blow === "killed").map(({ phase }) => phase).sort();
  for (const victim of ["loader", "trainer of replica 0", "sync shard", "sinkhorn", "checkpointer", "local host"]) {
    assertEquals(tried(victim), [...phases].sort(), victim);
  }
  assertEquals(tried("controller"), [...phases, ...controllerPhases].sort());
});
