import { assertEquals, assertStringIncludes } from "@std/assert";
import { formatFindings } from "../../setup/doctor.ts";
import {
  checkCodec,
  checkDecoding,
  checkDeno,
  checkDisk,
  checkPorts,
  checkProvider,
} from "../../setup/doctor_checks.ts";

Deno.test("the doctor finds nothing wrong with decoding, the codec and ports of a machine that runs the tests", async () => {
  for (const finding of [await checkDecoding(), checkCodec(), checkPorts()]) {
    assertEquals([finding.what, finding.state, finding.fix], [finding.what, "ok", ""]);
  }
});

Deno.test("the doctor asks for a newer Deno when it is too old", () => {
  assertEquals(checkDeno("2.9.6").state, "ok");
  assertEquals(checkDeno("3.0.0").state, "ok");
  const old = checkDeno("2.8.1");
  assertEquals(old.state, "failed");
  assertStringIncludes(old.fix, "deno@2.9.6");
});

Deno.test("the doctor multiplies matrices exactly on Deno's provider", async () => {
  const finding = await checkProvider("deno", {});
  assertEquals(finding.state, "ok", finding.found);
  assertStringIncludes(finding.found, "exact");
});

Deno.test("the doctor says what free space there is", async () => {
  const finding = await checkDisk(await Deno.makeTempDir());
  assertStringIncludes(finding.found, "free");
});

Deno.test("a failure is printed with its fix below it", () => {
  const text = formatFindings([{ what: "ports", state: "failed", found: "none", fix: "free some" }]);
  assertEquals(text, "FAILED  ports  none\n        fix: free some");
});
