/**
 * Lists the WebGPU adapters that a child process would see under a given environment. The list is made in a child
 * because LD_LIBRARY_PATH works only when set before a process starts, and because a broken driver can end the process
 * that loads it. It knows nothing of where drivers come from.
 */
import type { AdapterDescription } from "../device/device.ts";
import type { AdapterRefusal } from "../device/errors.ts";
import { runCommand } from "./command.ts";

/** What a child process saw. */
export interface ProbeResult {
  readonly adapters: readonly AdapterDescription[];
  /** Each provider without an adapter, with the reason. */
  readonly refusals: readonly AdapterRefusal[];
  /** Why there is none, in the child's words; empty when it ended well. */
  readonly complaint: string;
}

/** The line of the probe's output that carries its result; drivers print what they like around it. */
export const PROBE_MARK = "SEER-ADAPTERS ";

/** Adapters visible to a Deno process started with `env` added to this one's environment. */
export async function probeAdapters(env: Readonly<Record<string, string>>): Promise<ProbeResult> {
  const script = new URL("./probe.ts", import.meta.url);
  const config = import.meta.dirname ? [`--config=${import.meta.dirname}/../deno.json`] : [];
  const result = await runCommand(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-prompt",
      ...config,
      "--allow-read",
      "--allow-env",
      "--allow-ffi",
      "--allow-sys",
      script.href,
    ],
    timeoutMs: 120_000,
    env,
  });
  return readProbe(result);
}

/** The probe's result from what its process printed. */
export function readProbe(result: { code: number; stdout: string; stderr: string; timedOut: boolean }): ProbeResult {
  const line = result.stdout.split("\n").find((text) => text.startsWith(PROBE_MARK));
  if (line) return { ...JSON.parse(line.slice(PROBE_MARK.length)), complaint: "" };
  const last = result.stderr.trim().split("\n").slice(-3).join(" | ");
  const ending = result.timedOut ? "passed its deadline" : `ended with status ${result.code}`;
  return { adapters: [], refusals: [], complaint: `the adapter probe ${ending}: ${last || "no message"}` };
}
