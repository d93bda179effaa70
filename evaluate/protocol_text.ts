/** A protocol's result as a table for people. It computes nothing. */
import type { ProtocolResult, ProtocolRow } from "./protocols.ts";
import { layOut } from "./table.ts";

/** Worst classes that are named. */
const WORST = 3;

function rowCells({ name, figures, interval }: ProtocolRow, keys: readonly string[]): string[] {
  const cells = keys.map((key) => {
    const value = figures[key];
    return value === undefined ? "" : Number.isInteger(value) && value > 1 ? String(value) : value.toFixed(3);
  });
  const range = interval === undefined ? "" : `${interval[0].toFixed(3)}–${interval[1].toFixed(3)}`;
  return [name, ...cells, range];
}

/** The classes with the lowest figures of the last row, in words; empty where there are few classes. */
function worstClasses({ rows, classes }: ProtocolResult): string {
  const known = (rows[rows.length - 1].perClass ?? []).flatMap((value, c) => value === undefined ? [] : [{ value, c }]);
  if (known.length <= WORST) return "";
  const worst = known.sort((a, b) => a.value - b.value).slice(0, WORST);
  return `lowest classes: ${worst.map(({ value, c }) => `${classes[c]} ${value.toFixed(3)}`).join(", ")}`;
}

/** The result as a table with a line above and below. */
export function formatProtocol(result: ProtocolResult): string {
  const { protocol, classes, train, test, rows, unreadable } = result;
  const keys = [...new Set(rows.flatMap(({ figures }) => Object.keys(figures)))];
  const header = [protocol, ...keys, "95% interval"];
  const body = rows.map((row) => rowCells(row, keys));
  const table = [header, ...body];
  const cells = rows.some(({ interval }) => interval !== undefined) ? table : table.map((row) => row.slice(0, -1));
  const worst = worstClasses(result);
  return [
    `${classes.length} classes; learnt on ${train.name} (${train.images} images), tested on ${test.name} (${test.images})`,
    ...layOut(cells),
    ...(worst === "" ? [] : [worst]),
    ...(unreadable.length === 0 ? [] : [`${unreadable.length} unreadable images were left out`]),
  ].join("\n");
}
