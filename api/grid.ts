/**
 * A grid of experiments: every cell with every seed, one after the other, each finished one noted in a journal so that
 * a broken grid goes on where it stopped. Knows neither what a cell trains nor what its value means.
 */
import { join } from "node:path";
import { plotGrid } from "./grid_plot.ts";

/** A cell's settings: anything that JSON can hold. */
export type GridSettings = Readonly<Record<string, unknown>>;

/** One cell of a grid. */
export interface GridCell<S extends GridSettings> {
  readonly name: string;
  readonly settings: S;
}

/** One finished cell with one seed. */
export interface GridEntry {
  /** SHA-256 of settings and seed, in hexadecimal. */
  readonly key: string;
  readonly cell: string;
  readonly seed: number;
  readonly value: number;
}

/** A cell over its seeds; `deviation` is the sample standard deviation, 0 for one seed. */
export interface GridRow {
  readonly cell: string;
  readonly seeds: readonly number[];
  readonly values: readonly number[];
  readonly mean: number;
  readonly deviation: number;
}

/** Options of {@linkcode runGrid}. */
export interface GridOptions<S extends GridSettings> {
  readonly title: string;
  /** What `run` returns, with its unit. */
  readonly measure: string;
  readonly cells: readonly GridCell<S>[];
  readonly seeds: readonly number[];
  /** Folder of `journal.jsonl`, `table.md`, `table.json` and `plot.svg`; made where absent. */
  readonly out: string;
  readonly run: (settings: S, seed: number) => Promise<number>;
  readonly log?: (line: string) => void;
}

/** SHA-256 of settings and seed; the order of an object's names does not count. */
export async function gridKey(settings: GridSettings, seed: number): Promise<string> {
  const bytes = new TextEncoder().encode(JSON.stringify([sorted(settings), seed]));
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/**
 * Runs what the journal lacks and writes table and plot; the journal is replaced atomically after each cell and seed.
 *
 * @throws {Error} on no cells, no seeds, repeated names or seeds, an unreadable journal, a value that is not finite, and whatever `run` throws
 */
export async function runGrid<S extends GridSettings>(options: GridOptions<S>): Promise<GridRow[]> {
  const { cells, seeds, out, run, title, measure, log = () => {} } = options;
  requireDistinct("cell names", cells.map((cell) => cell.name));
  requireDistinct("seeds", seeds);
  await Deno.mkdir(out, { recursive: true });
  const journal = join(out, "journal.jsonl");
  const finished = await readJournal(journal);
  const entries: GridEntry[] = [];
  for (const { name, settings } of cells) {
    for (const seed of seeds) {
      const key = await gridKey(settings, seed);
      let entry = finished.get(key);
      if (entry === undefined) {
        log(`${name}, seed ${seed}`);
        const value = await run(settings, seed);
        if (!Number.isFinite(value)) {
          throw new Error(
            `Cannot note cell ${name}, seed ${seed}: a finite value is needed, found ${value}; see its run`,
          );
        }
        entry = { key, cell: name, seed, value };
        finished.set(key, entry);
        await writeAtomically(journal, [...finished.values()].map((each) => JSON.stringify(each) + "\n").join(""));
      }
      entries.push({ ...entry, cell: name });
    }
  }
  const rows = gridRows(entries);
  await writeAtomically(join(out, "table.md"), gridTable(rows, measure));
  await writeAtomically(join(out, "table.json"), JSON.stringify({ title, measure, rows }, null, 2) + "\n");
  await writeAtomically(join(out, "plot.svg"), plotGrid(rows, { title, measure }));
  return rows;
}

/** Entries by cell, in order of first appearance. */
export function gridRows(entries: readonly GridEntry[]): GridRow[] {
  return [...new Set(entries.map((entry) => entry.cell))].map((cell) => {
    const own = entries.filter((entry) => entry.cell === cell);
    const values = own.map((entry) => entry.value);
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const squares = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    const deviation = values.length > 1 ? Math.sqrt(squares / (values.length - 1)) : 0;
    return { cell, seeds: own.map((entry) => entry.seed), values, mean, deviation };
  });
}

/** Rows as a table in Markdown; the spread of one seed is told as unknown. */
export function gridTable(rows: readonly GridRow[], measure: string): string {
  const lines = rows.map(({ cell, seeds, values, mean, deviation }) => {
    const spread = values.length > 1 ? deviation.toFixed(4) : "one seed";
    return `| ${cell.replaceAll("|", "\\|")} | ${mean.toFixed(4)} | ${spread} | ${seeds.join(", ")} |`;
  });
  return [`| cell | ${measure}, mean | standard deviation | seeds |`, "| --- | ---: | ---: | --- |", ...lines, ""].join(
    "\n",
  );
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : 1).map(([k, v]) => [k, sorted(v)]));
}

function requireDistinct(what: string, values: readonly unknown[]): void {
  if (values.length === 0) throw new Error(`Cannot run the grid: ${what} are needed, found none; give at least one`);
  const twice = values.find((value, index) => values.indexOf(value) !== index);
  if (twice !== undefined) throw new Error(`Cannot run the grid: ${what} must differ, found ${twice} twice; drop one`);
}

async function readJournal(path: string): Promise<Map<string, GridEntry>> {
  const text = await Deno.readTextFile(path).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  });
  const entries = text.split("\n").filter((line) => line !== "").map((line, index): [string, GridEntry] => {
    try {
      const { key, cell, seed, value } = JSON.parse(line);
      if (typeof key === "string" && typeof value === "number") return [key, { key, cell, seed, value }];
    } catch { /* told below */ }
    throw new Error(
      `Cannot resume the grid: line ${index + 1} of ${path} must be an entry, found ${line}; delete that line`,
    );
  });
  return new Map(entries);
}

async function writeAtomically(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(`${path}.part`, text);
  await Deno.rename(`${path}.part`, path);
}
