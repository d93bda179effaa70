/** What a person is shown of the tuner's work: a line per choice, a line per reason to skip, a table. It formats only. */
import type { SkippedVariant, TunedChoice } from "../device/tuner.ts";

/** A heavy operation of a run with the variant that was settled on. */
export interface SettledKernel {
  readonly key: string;
  readonly variant: string;
  /** The stated default. */
  readonly usual: string;
  /** Median of one run of the variant, and of the default; absent where they were not timed. */
  readonly medianMs?: number;
  readonly usualMs?: number;
  readonly flops: number;
  /** `only`: no other variant runs here; `tied`: runs as the pass with moments does. */
  readonly source: "tuned" | "cached" | "default" | "only" | "tied" | "recorded";
}

/** `"1.23 ms  45.6 GFLOP/s  1.80× the default (registers 4x32)"`. */
function rate({ variant, usual, medianMs, usualMs, flops }: Omit<SettledKernel, "source">): string {
  if (medianMs === undefined) return variant === usual ? "the default, not timed" : "the only one that runs";
  const speed = `${milliseconds(medianMs)}  ${giga(flops, medianMs)} GFLOP/s`;
  if (variant === usual) return `${speed}  the default`;
  return usualMs === undefined
    ? `${speed}  the default (${usual}) does not run`
    : `${speed}  ${(usualMs / medianMs).toFixed(2)}× the default (${usual})`;
}

function milliseconds(ms: number): string {
  return `${ms < 10 ? ms.toFixed(3) : ms.toFixed(1)} ms`;
}

function giga(flops: number, ms: number): string {
  return (flops / ms / 1e6).toFixed(1);
}

/** One line per choice as it is made, and one per distinct reason for which a variant is left out. */
export class TuningReport {
  readonly #log: (line: string) => void;
  readonly #reasons = new Set<string>();
  readonly #total: number;
  #done = 0;

  constructor(total: number, log: (line: string) => void) {
    this.#total = total;
    this.#log = log;
  }

  /** Takes a choice. */
  chose(choice: TunedChoice): void {
    this.#log(`[${++this.#done}/${this.#total}] ${choice.key}: ${choice.variant}  ${rate(choice)}`);
    this.skipped(choice.skipped);
  }

  /** Takes variants that were left out. */
  skipped(variants: readonly SkippedVariant[]): void {
    for (const { variant, reason } of variants) {
      // Reasons that differ in their numbers alone are one.
      const kind = reason.replaceAll(/\d[\d.e+-]*/g, "#");
      if (this.#reasons.has(kind)) continue;
      this.#reasons.add(kind);
      this.#log(`  left out "${variant}": ${reason.slice(0, 200)}`);
    }
  }
}

/** Rows of text under their headings, in columns; all but the first two columns are numbers. */
export function kernelTable(kernels: readonly SettledKernel[]): string {
  const head = ["operation and shape", "variant", "ms", "GFLOP/s", "× default", ""];
  const rows = kernels.map(({ key, variant, medianMs, usualMs, flops, source }) => [
    key,
    variant,
    medianMs?.toFixed(3) ?? "–",
    medianMs === undefined ? "–" : giga(flops, medianMs),
    medianMs === undefined || usualMs === undefined ? "–" : (usualMs / medianMs).toFixed(2),
    source,
  ]);
  const widths = head.map((_, column) => Math.max(...[head, ...rows].map((row) => row[column].length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => i >= 2 && i <= 4 ? cell.padStart(widths[i]) : cell.padEnd(widths[i])).join("  ").trimEnd();
  const timed = kernels.filter(({ medianMs }) => medianMs !== undefined);
  const sum = (pick: (kernel: SettledKernel) => number) => timed.reduce((total, kernel) => total + pick(kernel), 0);
  const [chosen, usual] = [sum(({ medianMs = 0 }) => medianMs), sum(({ medianMs = 0, usualMs = medianMs }) => usualMs)];
  const total = timed.length === 0
    ? "nothing was timed: one variant each runs here"
    : `each once: ${milliseconds(chosen)}, by the defaults ${milliseconds(usual)}`;
  return [line(head), ...rows.map(line), total].join("\n");
}

/** `"kernels: 57 shapes (40 cached, 17 tuned)"`. */
export function kernelSummary(kernels: readonly SettledKernel[]): string {
  const counts = new Map<string, number>();
  for (const { source } of kernels) counts.set(source, (counts.get(source) ?? 0) + 1);
  const parts = [...counts].map(([source, count]) => `${count} ${source}`);
  return `kernels: ${kernels.length} shapes (${parts.join(", ")})`;
}
