/** `deno task doctor`: a table of what SEER needs on this machine, each failure with the line that fixes it. */
import {
  checkCodec,
  checkDecoding,
  checkDeno,
  checkDisk,
  checkPorts,
  checkProvider,
  type Finding,
} from "./doctor_checks.ts";
import { ensureVulkan } from "./vulkan.ts";

/** All findings, in the order of the table. */
export async function examine(): Promise<Finding[]> {
  const findings: Finding[] = [checkDeno()];
  try {
    const env = await ensureVulkan({ log: (line) => console.log(line) });
    findings.push(await checkProvider("deno", env), await checkProvider("dawn", env));
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    findings.push({ what: "GPU", state: "failed", found: text, fix: "see the end of the line above" });
  }
  return [...findings, await checkDecoding(), checkCodec(), checkPorts(), await checkDisk()];
}

/** The findings as text: one row each, fixes below their row. */
export function formatFindings(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ what }) => what.length));
  const signs = { ok: "ok    ", note: "note  ", failed: "FAILED" };
  return findings.map(({ what, state, found, fix }) =>
    `${signs[state]}  ${what.padEnd(width)}  ${found}${fix === "" ? "" : `\n        fix: ${fix}`}`
  ).join("\n");
}

if (import.meta.main) {
  const findings = await examine();
  console.log(formatFindings(findings));
  const failed = findings.filter(({ state }) => state === "failed").length;
  console.log(failed === 0 ? "\nready: deno task quickstart" : `\n${failed} of ${findings.length} need fixing`);
  Deno.exit(failed === 0 ? 0 : 1);
}
