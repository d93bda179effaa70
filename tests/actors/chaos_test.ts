import { assertEquals } from "@std/assert";
import { chaos, quantile } from "../../tools/chaos.ts";
import { gpuEnvironment } from "./runs.ts";

Deno.test("a run whose actors are killed and frozen by a random schedule ends with the weights of a run in peace", async () => {
  const lines: string[] = [];
  const report = await chaos({
    kills: 3,
    freezes: 1,
    seed: 7,
    gpuEnvironment: gpuEnvironment(),
    log: (line) => lines.push(line),
  });
  assertEquals(report.found, report.expected, lines.join("\n"));
  assertEquals(report.kills.length, 4, lines.join("\n"));
  assertEquals(report.kills.filter(({ frozen }) => frozen).length, 1, lines.join("\n"));
});

Deno.test("quantile() gives the value below which a share of the others lies", () => {
  const values = [5, 1, 4, 2, 3];
  assertEquals([0, 0.5, 0.95, 1].map((q) => quantile(values, q)), [1, 3, 5, 5]);
});
