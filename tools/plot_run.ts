/**
 * Draws a run's curves from its `metrics.jsonl` as one SVG file:
 * `deno run --allow-read --allow-write tools/plot_run.ts RUN OUTPUT.svg`.
 */
import type { StepRecord } from "../actors/events.ts";
import { readMetrics } from "../actors/run_files.ts";

interface Panel {
  readonly title: string;
  readonly value: (record: StepRecord) => number;
}

const panels: readonly Panel[] = [
  { title: "loss / ln K", value: (record) => record.lossOverLnK },
  { title: "prototype perplexity", value: (record) => record.prototypePerplexity },
  { title: "embedding standard deviation", value: (record) => record.embeddingDeviation },
  { title: "learning rate", value: (record) => record.learningRate },
];

const width = 340, height = 180, margin = { left: 56, right: 12, top: 28, bottom: 28 };

/** The curves of a run as SVG text. */
export function plotRun(records: readonly StepRecord[]): string {
  const charts = panels.map((panel, index) => {
    const [x, y] = [(index % 2) * width, Math.floor(index / 2) * height];
    return `<g transform="translate(${x} ${y})">${chart(records, panel)}</g>`;
  });
  const rows = Math.ceil(panels.length / 2);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${2 * width} ${
    rows * height
  }" font-family="sans-serif" font-size="11">
<rect width="100%" height="100%" fill="white"/>
${charts.join("\n")}
</svg>
`;
}

function chart(records: readonly StepRecord[], { title, value }: Panel): string {
  const values = records.map(value);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const span = high - low || 1;
  const last = Math.max(1, records.length - 1);
  const plotWidth = width - margin.left - margin.right, plotHeight = height - margin.top - margin.bottom;
  const point = (entry: number, index: number) =>
    `${(margin.left + (index / last) * plotWidth).toFixed(1)},${
      (margin.top + (1 - (entry - low) / span) * plotHeight).toFixed(1)
    }`;
  const bottom = height - margin.bottom;
  const text = (x: number, y: number, label: string, anchor: string) =>
    `<text x="${x}" y="${y}" text-anchor="${anchor}">${label}</text>`;
  return [
    text(width / 2, 16, title, "middle"),
    `<path d="M${margin.left} ${margin.top}V${bottom}H${width - margin.right}" fill="none" stroke="#999"/>`,
    text(margin.left - 4, margin.top + 8, high.toPrecision(3), "end"),
    text(margin.left - 4, bottom, low.toPrecision(3), "end"),
    text(margin.left, height - 10, `step ${records[0].step}`, "start"),
    text(width - margin.right, height - 10, String(records[records.length - 1].step), "end"),
    `<polyline fill="none" stroke="#2563eb" stroke-width="1.3" points="${values.map(point).join(" ")}"/>`,
  ].join("\n");
}

if (import.meta.main) {
  const [run, output] = Deno.args;
  if (output === undefined) {
    console.error("usage: tools/plot_run.ts RUN OUTPUT.svg");
    Deno.exit(2);
  }
  Deno.writeTextFileSync(output, plotRun(readMetrics(run)));
}
