/**
 * What a benchmark run leaves behind: a report in JSON with where it ran and one entry per name and arm. Reading checks
 * it. It measures nothing.
 */
import type { Summary } from "./statistics.ts";

/** Version of the report's form. */
export const REPORT_SCHEMA = 1;

/** One measured thing, by one of the arms that were compared. */
export interface Entry extends Summary {
  /** `kernels`, `step`, `links`, `overhead`, `ceilings`. */
  readonly suite: string;
  /** What was measured: `"400MF conv2d forward: 1x1/1 104→104, 4×28×28"`. */
  readonly name: string;
  /** Who did it: `ours`, `tfjs webgpu`, `jax-js webgpu`. */
  readonly arm: string;
  /** Unit of median, min and max: `ms`, `MB/s`, `MiB`, `%`. */
  readonly unit: string;
  /** Which direction is an improvement. */
  readonly better: "lower" | "higher";
  /** Relative error of the result, found before timing; `null` where there is nothing to check. */
  readonly error: number | null;
  /** Floating-point operations of one run, for rates. */
  readonly flops?: number;
  /** Bytes that one run has to move at least. */
  readonly bytes?: number;
  /** The variant that ran, or what else a reader must know. */
  readonly note?: string;
}

/** Where and from what a report was made. */
export interface ReportHead {
  /** Commit, with `+` when files were changed since. */
  readonly commit: string;
  /** ISO 8601, UTC. */
  readonly date: string;
  readonly adapter: string;
  readonly vendor: string;
  readonly provider: string;
  readonly kind: "cpu" | "gpu";
  readonly features: readonly string[];
  readonly cores: number;
  /** Of Deno, the provider's package and the peers, by name. */
  readonly versions: Readonly<Record<string, string>>;
}

/** A whole report. */
export interface Report extends ReportHead {
  readonly schema: typeof REPORT_SCHEMA;
  readonly entries: readonly Entry[];
}

const HEAD_TEXTS = ["commit", "date", "adapter", "vendor", "provider"] as const;
const ENTRY_TEXTS = ["suite", "name", "arm", "unit"] as const;
const ENTRY_NUMBERS = ["median", "min", "max", "samples"] as const;

/**
 * Reads a report's JSON.
 *
 * @throws TypeError that names the first field which is not as it must be.
 */
export function parseReport(text: string): Report {
  const value: unknown = JSON.parse(text);
  const report = recordOf(value, "report");
  if (report.schema !== REPORT_SCHEMA) {
    throw new TypeError(
      `Cannot read a benchmark report: schema ${REPORT_SCHEMA} is needed, it has ${String(report.schema)}; ` +
        "run both commits' benchmarks with one version",
    );
  }
  for (const key of HEAD_TEXTS) check(typeof report[key] === "string", key, "a text", report[key]);
  const entries = report.entries;
  if (!Array.isArray(entries)) throw wrong("entries", "a list", entries);
  for (const [i, item] of entries.entries()) {
    const entry = recordOf(item, `entries[${i}]`);
    for (const key of ENTRY_TEXTS) check(typeof entry[key] === "string", `entries[${i}].${key}`, "a text", entry[key]);
    for (const key of ENTRY_NUMBERS) {
      check(Number.isFinite(entry[key]), `entries[${i}].${key}`, "a finite number", entry[key]);
    }
    check(
      entry.better === "lower" || entry.better === "higher",
      `entries[${i}].better`,
      '"lower" or "higher"',
      entry.better,
    );
  }
  return value as Report;
}

/** What tells entries apart within a report. */
export function entryKey({ suite, name, arm }: Pick<Entry, "suite" | "name" | "arm">): string {
  return `${suite} | ${name} | ${arm}`;
}

function recordOf(value: unknown, what: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null) throw wrong(what, "an object", value);
  return value as Record<string, unknown>;
}

function check(good: boolean, what: string, needed: string, found: unknown): void {
  if (!good) throw wrong(what, needed, found);
}

function wrong(what: string, needed: string, found: unknown): TypeError {
  return new TypeError(`Cannot read a benchmark report: ${what} must be ${needed}, it is ${JSON.stringify(found)}`);
}
