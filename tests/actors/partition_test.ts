/** Networks that are cut, one way or both, and healed: the run goes on without who is cut off, and then with them again. */
import { assert, assertEquals } from "@std/assert";
import { ownNetwork, whyNoFlaws } from "../../tools/namespaces.ts";
import { partitionRun, type Scenario } from "../../tools/partition.ts";
import { gpuEnvironment } from "./runs.ts";

const own = await ownNetwork(["true"]);
if ("reason" in own) console.log(`Not tested: partitions between network namespaces: ${own.reason}`);

for (const scenario of ["both ways", "to the controller", "between trainer and shard"] satisfies Scenario[]) {
  Deno.test({
    name:
      `machines whose ways are cut ${scenario} and healed go on without who is cut off, and end with the weights of peace`,
    ignore: "reason" in own,
    async fn() {
      const report = await partitionRun(scenario, gpuEnvironment());
      if (typeof report === "string") throw new Error(report);
      assertEquals(report.wrong, [], report.lines.join("\n"));
      assertEquals(report.found, report.expected, report.lines.join("\n"));
    },
  });
}

const noFlaws = await whyNoFlaws();
if (noFlaws !== undefined) console.log(`Not tested: a cable that loses packets: ${noFlaws}`);

Deno.test({
  name: "machines whose cable loses 5 % of packets and takes 20 ms lose nobody, and end with the weights of peace",
  ignore: noFlaws !== undefined,
  async fn() {
    const report = await partitionRun("lossy", gpuEnvironment());
    if (typeof report === "string") throw new Error(report);
    assertEquals(report.wrong, [], report.lines.join("\n"));
    assertEquals(report.found, report.expected, report.lines.join("\n"));
    const { carried, lost } = report.traffic;
    assert(lost > 0.03 * carried, `${lost} of ${carried + lost} packets were lost`);
  },
});
