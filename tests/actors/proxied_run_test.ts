import { assertEquals } from "@std/assert";
import { proxiedRun } from "../../tools/proxied_run.ts";
import { withImages } from "../../tools/small_run.ts";
import { gpuEnvironment } from "./runs.ts";

Deno.test("a host that all reaches 200 ms late is not lost; cut off from the controller alone it is, and comes again", async () => {
  const report = await withImages((folder) =>
    proxiedRun({ folder, ways: ["up"], gpuEnvironment: gpuEnvironment(), peaceHere: true })
  );
  assertEquals(report.wrong, []);
  assertEquals([report.lossesWhenLate, report.found], [0, report.expected]);
});
