/** A grid's values as one SVG: a point per seed, a bar at the mean, a line of one standard deviation either side. Knows no files. */
import type { GridRow } from "./grid.ts";

const columnWidth = 90, height = 260, margin = { left: 70, right: 16, top: 34, bottom: 40 };

/** SVG text of a grid's rows, in order. */
export function plotGrid(rows: readonly GridRow[], { title, measure }: { title: string; measure: string }): string {
  const all = rows.flatMap(({ values, mean, deviation }) => [...values, mean - deviation, mean + deviation]);
  const low = Math.min(...all), high = Math.max(...all);
  const bottom = height - margin.bottom, width = margin.left + rows.length * columnWidth + margin.right;
  const y = (value: number) => (bottom - ((value - low) / (high - low || 1)) * (bottom - margin.top)).toFixed(1);
  const columns = rows.map(({ cell, values, mean, deviation }, index) => {
    const x = margin.left + (index + 0.5) * columnWidth;
    return [
      `<path d="M${x} ${y(mean - deviation)}V${y(mean + deviation)}M${x - 14} ${y(mean)}H${x + 14}" stroke="#111"/>`,
      ...values.map((value) => `<circle cx="${x}" cy="${y(value)}" r="3.5" fill="#2563eb" fill-opacity="0.6"/>`),
      `<text x="${x}" y="${bottom + 18}" text-anchor="middle">${escape(cell)}</text>`,
    ].join("\n");
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
<text x="${margin.left}" y="16">${escape(title)}: ${escape(measure)}</text>
<path d="M${margin.left} ${margin.top}V${bottom}H${width - margin.right}" fill="none" stroke="#999"/>
<text x="${margin.left - 4}" y="${margin.top + 8}" text-anchor="end">${high.toPrecision(3)}</text>
<text x="${margin.left - 4}" y="${bottom}" text-anchor="end">${low.toPrecision(3)}</text>
${columns.join("\n")}
</svg>
`;
}

function escape(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
