/**
 * `deno task bench:compare A B`: the ratio of each entry that two reports share, and which changes are larger than the
 * samples' spread. Exits with 1 when an entry of ours got worse beyond the spread, with 2 when it cannot compare.
 */
import { type Entry, entryKey, parseReport, type Report } from "./report.ts";
import { geometricMean } from "./statistics.ts";
import { short, table } from "./table.ts";

/** How an entry changed. */
export interface Change {
  readonly key: string;
  readonly before: Entry;
  readonly after: Entry;
  /** Improvement factor: above 1 is better, whichever direction the unit has. */
  readonly ratio: number;
  /** `better` and `worse` where the ranges of samples do not touch and the medians differ by more than 5%. */
  readonly verdict: "better" | "worse" | "same";
}

/** Medians nearer than this are the same even where their ranges do not touch. */
const INDIFFERENCE = 1.05;

/** Every entry that both reports have, in the order of `after`. */
export function compareReports(before: Report, after: Report): Change[] {
  const known = new Map(before.entries.map((entry) => [entryKey(entry), entry]));
  return after.entries.flatMap((entry): Change[] => {
    const earlier = known.get(entryKey(entry));
    if (earlier === undefined || earlier.unit !== entry.unit) return [];
    const ratio = entry.better === "lower" ? earlier.median / entry.median : entry.median / earlier.median;
    const apart = entry.min > earlier.max || entry.max < earlier.min;
    const verdict = !apart || (ratio < INDIFFERENCE && ratio > 1 / INDIFFERENCE)
      ? "same"
      : ratio > 1
      ? "better"
      : "worse";
    return [{ key: entryKey(entry), before: earlier, after: entry, ratio, verdict }];
  });
}

/** Why two reports should not be compared, or nothing. */
export function incomparable(before: Report, after: Report): string | undefined {
  for (const key of ["adapter", "provider", "cores"] as const) {
    if (before[key] !== after[key]) return `${key} was "${before[key]}" and is "${after[key]}"`;
  }
  return undefined;
}

/** The comparison as text. */
export function formatChanges(changes: readonly Change[]): string {
  const range = ({ median, min, max, unit }: Entry) => `${short(median)} [${short(min)}, ${short(max)}] ${unit}`;
  const rows = changes.map(({ key, before, after, ratio, verdict }) => [
    key,
    range(before),
    range(after),
    `${ratio.toFixed(2)}×`,
    verdict === "same" ? "" : verdict,
  ]);
  return table(["entry", "before", "after", "ratio", ""], rows);
}

async function main([before, after]: readonly string[]): Promise<number> {
  if (before === undefined || after === undefined) {
    console.error("Cannot compare: two reports of `deno task bench --json FILE` are needed");
    return 2;
  }
  const [first, second] = await Promise.all(
    [before, after].map(async (path) => parseReport(await Deno.readTextFile(path))),
  );
  console.log(`${first.commit} (${first.date}) → ${second.commit} (${second.date}), above 1 is better\n`);
  const reason = incomparable(first, second);
  if (reason !== undefined) console.log(`Not the same machine: ${reason}; ratios say little\n`);
  const changes = compareReports(first, second);
  if (changes.length === 0) {
    console.error("Cannot compare: the reports share no entry");
    return 2;
  }
  console.log(formatChanges(changes));
  const ours = changes.filter(({ after: { arm } }) => arm.startsWith("ours"));
  const worse = ours.filter(({ verdict }) => verdict === "worse").length;
  const better = ours.filter(({ verdict }) => verdict === "better").length;
  const mean = geometricMean(ours.map(({ ratio }) => ratio));
  console.log(`\nours: ${better} better, ${worse} worse, ${ours.length} in all, geometric mean ${mean.toFixed(3)}×`);
  return worse > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
