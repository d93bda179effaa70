/** Rows of cells as lines of text. */

/** The first row is a header; the first column is flush left, the others right. */
export function layOut(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row.map((text, column) => column === 0 ? text.padEnd(widths[0]) : text.padStart(widths[column])).join("  ")
  );
  return [lines[0], widths.map((width) => "─".repeat(width)).join("  "), ...lines.slice(1)];
}
