import { assertEquals } from "@std/assert";
import { readJunit } from "../../tools/junit.ts";
import { closingLine } from "../../tools/test.ts";

const XML = `<testsuites name="deno test" tests="4" failures="1" errors="0">
  <testsuite name="./a_test.ts" tests="4" disabled="1" errors="0" failures="1">
    <testcase name="ok" classname="./a_test.ts" time="0.000">
    </testcase>
    <testcase name="bad &lt;1&gt;" classname="./a_test.ts">
      <failure message="Uncaught Error: x">Error: x &lt;y&gt; &amp;lt;</failure>
    </testcase>
    <testcase name="off"><skipped/></testcase>
    <testcase name="ok &gt; step" />
  </testsuite>
</testsuites>`;

Deno.test("readJunit() counts tests, steps, failures and skips", () => {
  const { passed, failed, skipped, failures } = readJunit(XML);
  assertEquals({ passed, failed, skipped }, { passed: 2, failed: 1, skipped: 1 });
  assertEquals(failures, [{ name: "bad <1>", message: "Error: x <y> &lt;" }]);
  assertEquals(readJunit("").passed, 0);
});

Deno.test("the closing line sums gates and test files, and names skips only where there are some", () => {
  assertEquals(
    closingLine([{ passed: 3, failed: 0, skipped: 0 }, { passed: 0, failed: 1, skipped: 0 }]),
    "3 passed, 1 failed",
  );
  assertEquals(closingLine([{ passed: 3, failed: 0, skipped: 2 }]), "3 passed, 0 failed, 2 skipped");
});

Deno.test("the counts are those of the test runner's real report", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/a_test.ts`,
      `Deno.test("a", () => {});
       Deno.test("b", () => { throw new Error("no"); });
       Deno.test.ignore("c", () => {});
       Deno.test("d", async (t) => { await t.step("e", () => {}); });`,
    );
    await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-config", "--no-check", `--junit-path=${folder}/report.xml`, `${folder}/a_test.ts`],
      stdout: "null",
      stderr: "null",
    }).output();
    const { passed, failed, skipped } = readJunit(await Deno.readTextFile(`${folder}/report.xml`));
    assertEquals({ passed, failed, skipped }, { passed: 3, failed: 1, skipped: 1 });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
