import { assertEquals } from "@std/assert";
import { elastic } from "../../tools/elastic.ts";
import { withImages } from "../../tools/small_run.ts";
import { gpuEnvironment } from "./runs.ts";

Deno.test("hosts join and are told to leave every few steps, no step is lost, and the weights are those of peace", async () => {
  const lines: string[] = [];
  const log = (line: string) => void lines.push(line);
  const report = await withImages((folder) =>
    elastic({ folder, changes: 4, seed: 3, gpuEnvironment: gpuEnvironment(), peaceHere: true, log })
  );
  assertEquals(report.wrong, [], lines.join("\n"));
  assertEquals(report.trainers.length, 4);
  assertEquals(report.found, report.expected, lines.join("\n"));
});
