/**
 * Every role in every phase on real processes, a run for each role, and what came of it as a table: the body of
 * `deno task chaos --matrix`.
 */
import { allCells, type Cell, nameOf } from "./fault_cells.ts";
import { faultTour, type TourReport } from "./fault_tour.ts";
import { withImages } from "./small_run.ts";

/** Takes a run a role through its phases; cells whose name holds `text` alone. */
export async function faultMatrix(
  { text, gpuEnvironment, log }: {
    text: string;
    gpuEnvironment: Readonly<Record<string, string>>;
    log: (line: string) => void;
  },
): Promise<TourReport[]> {
  const chosen = allCells.filter((cell) => nameOf(cell).includes(text));
  const reports: TourReport[] = [];
  for (const cells of Map.groupBy(chosen, ({ victim }) => victim).values()) {
    reports.push(await withImages((folder) => faultTour({ folder, cells, gpuEnvironment, log })));
  }
  return reports;
}

/** Prints the table, then what was wrong; the exit code. */
export function printMatrix(reports: readonly TourReport[], log: (line: string) => void): number {
  const line = (...cells: string[]) => log(cells.map((cell, i) => i < 4 ? cell.padEnd(22) : cell.padStart(9)).join(""));
  log("");
  line("role", "phase", "blow", "outcome", "acted ms", "step ms", "again");
  for (const { cells } of reports) {
    for (const { cell: { victim, phase, blow }, outcome, ...times } of cells) {
      const numbers = [times.actedMs, times.recoveredMs, times.repeated].map((value) => value.toFixed(0));
      line(victim, phase, blow, outcome, ...numbers);
    }
  }
  const wrong = reports.flatMap((report) => [
    ...report.wrong,
    ...report.expected === report.found
      ? []
      : [`${rolesOf(report)}: weights ${report.found}, in peace ${report.expected}`],
  ]);
  for (const each of wrong) log(`wrong: ${each}`);
  const [count, steps] = [reports.flatMap(({ cells }) => cells).length, reports.reduce((sum, r) => sum + r.steps, 0)];
  log(
    `${count} faults in ${reports.length} runs of ${steps} steps: ${wrong.length === 0 ? "the same weights" : "WRONG"}`,
  );
  return wrong.length === 0 && count > 0 ? 0 : 1;
}

function rolesOf({ cells }: TourReport): string {
  return [...new Set(cells.map(({ cell }: { cell: Cell }) => cell.victim))].join(", ");
}
