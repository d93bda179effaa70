/**
 * Images listed in a table: a CSV file with a header line that names the columns `path`, `label` (one class) or `labels`
 * (several, between `;`), and `split` if there is one; or a text file with a path and a class in each line. Paths are taken
 * from the list's folder. It knows no pixels and no evaluation.
 */
import { parse } from "@std/csv/parse";
import { readImageFile } from "./image_file.ts";
import { LabelError, type LabelledImages, type Split, splitOfWord } from "./labelled.ts";

/** Options of {@linkcode openList}. */
export interface ListOptions {
  /** Where relative paths start. @default the list's folder */
  readonly root?: string;
}

interface Entry {
  readonly path: string;
  readonly labels: readonly string[];
  readonly split: Split | undefined;
}

interface Table {
  readonly labelling: "single" | "multi";
  readonly entries: readonly Entry[];
}

/** Whether a name looks like a list. */
export function isListName(name: string): boolean {
  return /\.(csv|txt|lst)$/i.test(name);
}

function readCsv(text: string, file: string): Table {
  let rows: string[][];
  try {
    rows = parse(text).filter((row) => row.some((cell) => cell.trim() !== ""));
  } catch (error) {
    throw new LabelError(file, error instanceof Error ? error.message : String(error));
  }
  const header = (rows[0] ?? []).map((cell) => cell.trim().toLowerCase());
  const at = { path: header.indexOf("path"), label: header.indexOf("label"), labels: header.indexOf("labels") };
  const splitAt = header.indexOf("split");
  if (at.path < 0 || (at.label < 0) === (at.labels < 0)) {
    throw new LabelError(
      file,
      `its first line must name the columns path and label (or labels), found ${header.join(", ") || "nothing"}`,
    );
  }
  const multi = at.labels >= 0;
  const entries = rows.slice(1).map((row, i): Entry => {
    const where = `line ${i + 2}`;
    if (row.length !== header.length) {
      throw new LabelError(file, `${where} must have ${header.length} cells, found ${row.length}`);
    }
    const cell = row[multi ? at.labels : at.label];
    const labels = (multi ? cell.split(";") : [cell]).map((label) => label.trim()).filter((label) => label !== "");
    if (!multi && labels.length === 0) throw new LabelError(file, `${where} has no label`);
    const word = splitAt < 0 ? "" : row[splitAt].trim();
    const split = splitOfWord(word);
    if (word !== "" && split === undefined) {
      throw new LabelError(file, `${where}: a split must be train, val or test, found ${word}`);
    }
    return { path: row[at.path].trim(), labels, split };
  });
  return { labelling: multi ? "multi" : "single", entries };
}

function readLines(text: string, file: string): Table {
  const entries = text.split(/\r?\n/).flatMap((line, i): Entry[] => {
    if (line.trim() === "") return [];
    const parts = /^(.*\S)\s+(\S+)\s*$/.exec(line);
    if (parts === null) {
      throw new LabelError(file, `line ${i + 1} must have a path and a class, found "${line.trim()}"`);
    }
    return [{ path: parts[1].trim(), labels: [parts[2]], split: undefined }];
  });
  return { labelling: "single", entries };
}

function requireDistinct(entries: readonly Entry[], file: string): void {
  const seen = new Set<string>();
  for (const { path } of entries) {
    if (path === "") throw new LabelError(file, "a line has no path");
    if (seen.has(path)) throw new LabelError(file, `"${path}" is listed twice; list each image once`);
    seen.add(path);
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** Names in order; numbers by size, so that class 10 comes after class 9. */
export function sortClasses(names: Iterable<string>): string[] {
  const distinct = [...new Set(names)];
  const numeric = distinct.every((name) => /^\d+$/.test(name));
  return distinct.sort(numeric ? (a, b) => Number(a) - Number(b) : compareText);
}

/**
 * Opens a list of labelled images, in the list's order.
 *
 * @throws {LabelError} when the list is missing, malformed or empty
 */
export async function openList(file: string, { root }: ListOptions = {}): Promise<LabelledImages> {
  const text = await Deno.readTextFile(file).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) throw new LabelError(file, "it does not exist; check the path");
    throw error;
  });
  const { labelling, entries } = /\.csv$/i.test(file) ? readCsv(text, file) : readLines(text, file);
  if (entries.length === 0) throw new LabelError(file, "it lists no image");
  requireDistinct(entries, file);
  const folder = root ?? (file.includes("/") ? file.slice(0, file.lastIndexOf("/")) : ".");
  const classes = sortClasses(entries.flatMap(({ labels }) => labels));
  const numberOf = new Map(classes.map((name, c) => [name, c]));
  const labels = entries.map((entry) =>
    [...new Set(entry.labels.map((name) => numberOf.get(name) ?? 0))].sort((a, b) => a - b)
  );
  return {
    size: entries.length,
    classes,
    labelling,
    name: (i) => entries[i].path,
    labelsOf: (i) => labels[i],
    splitOf: (i) => entries[i].split,
    read(i) {
      const { path } = entries[i];
      return readImageFile(path.startsWith("/") ? path : `${folder}/${path}`, { name: path });
    },
  };
}
