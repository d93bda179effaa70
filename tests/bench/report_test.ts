import { assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { compareReports, formatChanges, incomparable } from "../../bench/compare.ts";
import { type Entry, parseReport, type Report, REPORT_SCHEMA } from "../../bench/report.ts";
import { geometricMean, roundOrder, summarize } from "../../bench/statistics.ts";

const entry = (changed: Partial<Entry>): Entry => ({
  suite: "kernels",
  name: "matmul",
  arm: "ours",
  unit: "ms",
  better: "lower",
  error: 0,
  median: 10,
  min: 9.5,
  max: 10.5,
  samples: 5,
  ...changed,
});

const report = (...entries: Entry[]): Report => ({
  schema: REPORT_SCHEMA,
  commit: "abc",
  date: "2026-11-24T00:00:00Z",
  adapter: "llvmpipe",
  vendor: "mesa",
  provider: "deno",
  kind: "cpu",
  features: [],
  cores: 2,
  versions: {},
  entries,
});

Deno.test("a change counts where samples do not touch and medians differ by more than 5%, whichever way is better", () => {
  const before = report(
    entry({ name: "faster" }),
    entry({ name: "touching" }),
    entry({ name: "little" }),
    entry({ name: "rate", unit: "MB/s", better: "higher" }),
    entry({ name: "gone" }),
  );
  const after = report(
    entry({ name: "faster", median: 5, min: 4.9, max: 5.2 }),
    entry({ name: "touching", median: 12, min: 10.4, max: 13 }),
    entry({ name: "little", median: 10.45, min: 10.51, max: 10.6 }),
    entry({ name: "rate", unit: "MB/s", better: "higher", median: 5, min: 4, max: 6 }),
    entry({ name: "new" }),
  );
  const changes = compareReports(before, after);
  assertEquals(changes.map(({ after, verdict }) => [after.name, verdict]), [
    ["faster", "better"],
    ["touching", "same"],
    ["little", "same"],
    ["rate", "worse"],
  ]);
  assertEquals([changes[0].ratio, changes[3].ratio], [2, 0.5]);
  assertStringIncludes(formatChanges(changes), "2.00×");
  assertEquals(incomparable(before, { ...after, adapter: "NVIDIA" }), 'adapter was "llvmpipe" and is "NVIDIA"');
  assertEquals(incomparable(before, after), undefined);
});

Deno.test("a report is read back, and a broken one names the field", () => {
  const good = report(entry({}));
  assertEquals(parseReport(JSON.stringify(good)), good);
  const broken = (changed: object) => () => parseReport(JSON.stringify({ ...good, ...changed }));
  assertThrows(broken({ schema: 0 }), TypeError, "schema 1 is needed");
  assertThrows(broken({ adapter: 3 }), TypeError, "adapter must be a text");
  assertThrows(broken({ entries: [{ ...entry({}), median: null }] }), TypeError, "entries[0].median");
});

Deno.test("the report in bench/results can be read", async () => {
  for await (const { name } of Deno.readDir("bench/results")) {
    const { entries } = parseReport(await Deno.readTextFile(`bench/results/${name}`));
    assertEquals(entries.length > 0, true, name);
  }
});

Deno.test("samples are summarised by their median, and arms take turns", () => {
  assertEquals(summarize([5, 1, 3]), { median: 3, min: 1, max: 5, samples: 3 });
  assertEquals(summarize([4, 1, 3, 2]).median, 2.5);
  assertThrows(() => summarize([1, NaN]), RangeError, "got NaN");
  assertThrows(() => summarize([]), RangeError, "at least one");
  assertEquals([roundOrder(3, 0), roundOrder(3, 1)], [[0, 1, 2], [1, 2, 0]]);
  assertAlmostEquals(geometricMean([2, 8]), 4, 1e-12);
});
