/** Plain-text tables and numbers. */

/** Three significant digits, without an exponent: `12.3`, `0.0456`, `1234`; `–` for what was not measured. */
export function short(value: number | undefined): string {
  if (value === undefined || !Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}

/** Rows under a heading, columns aligned: the first to the left, the others to the right. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows];
  const widths = heading.map((_, column) => Math.max(...all.map((row) => [...(row[column] ?? "")].length)));
  const line = (row: readonly string[]) =>
    widths.map((width, column) => {
      const text = row[column] ?? "";
      const padding = " ".repeat(width - [...text].length);
      return column === 0 ? text + padding : padding + text;
    }).join("  ").trimEnd();
  return [line(heading), widths.map((width) => "─".repeat(width)).join("  "), ...rows.map(line)].join("\n");
}
