/**
 * `deno task bench [SUITE …] [--json FILE]`: runs suites one after the other, each in a process whose environment shows the
 * GPU, and writes one report of all they measured. Other options go to the suites. `bench/compare.ts` compares reports.
 */
import { ensureVulkan } from "../setup/vulkan.ts";
import { type Report, REPORT_SCHEMA } from "./report.ts";
import type { ReportPart } from "./suite.ts";

const SUITES = [
  "ceilings",
  "kernels",
  "network",
  "training",
  "lanes",
  "links",
  "round_trips",
  "overhead",
  "protection",
  "step",
];
/** Suites that print and leave no entries. */
const PRINTED = ["step"];

/** What `git` says, or a word that it does not. */
async function commit(): Promise<string> {
  const git = async (...args: string[]) => {
    const { stdout, success } = await new Deno.Command("git", { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).trim() : undefined;
  };
  const head = await git("rev-parse", "--short=10", "HEAD").catch(() => undefined);
  if (head === undefined) return "unknown";
  return head + (await git("status", "--porcelain", "--untracked-files=no") === "" ? "" : "+");
}

interface Arguments {
  readonly suites: readonly string[];
  readonly json?: string;
  readonly rest: readonly string[];
}

function parse(args: readonly string[]): Arguments {
  const first = args.findIndex((word) => word.startsWith("-"));
  const words = first < 0 ? args : args.slice(0, first);
  const unknown = words.find((word) => !SUITES.includes(word));
  if (unknown !== undefined) throw new RangeError(`benchmark "${unknown}" is unknown; there are ${SUITES.join(", ")}`);
  const rest = [...args.slice(words.length)];
  const at = rest.indexOf("--json");
  const [, json] = at < 0 ? [] : rest.splice(at, 2);
  if (at >= 0 && json === undefined) throw new RangeError("--json needs the name of a file");
  return { suites: words.length > 0 ? words : SUITES, json, rest };
}

async function main(args: readonly string[]): Promise<number> {
  const { suites, json, rest } = parse(args);
  const env = await ensureVulkan({ log: (line) => console.log(line) });
  const parts: ReportPart[] = [];
  for (const name of suites) {
    const part = await Deno.makeTempFile({ prefix: "seer-bench-", suffix: ".json" });
    const script = new URL(`./${name}.ts`, import.meta.url).href;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--allow-all", script, ...rest, "--part", part],
      env,
      stdout: "inherit",
      stderr: "inherit",
    }).spawn();
    const { code } = await child.status;
    if (code !== 0) return code;
    if (!PRINTED.includes(name)) parts.push(JSON.parse(await Deno.readTextFile(part)));
    await Deno.remove(part);
  }
  if (json === undefined) return 0;
  const device = parts.find((part) => part.device !== undefined)?.device;
  const report: Report = {
    schema: REPORT_SCHEMA,
    commit: await commit(),
    date: new Date().toISOString(),
    adapter: device?.name ?? "none",
    vendor: device?.vendor ?? "none",
    provider: device?.provider ?? "none",
    kind: device?.kind ?? "cpu",
    features: device?.features ?? [],
    cores: navigator.hardwareConcurrency,
    versions: Object.assign({ deno: Deno.version.deno }, ...parts.map(({ versions }) => versions ?? {})),
    entries: parts.flatMap(({ entries }) => entries),
  };
  await Deno.writeTextFile(json, JSON.stringify(report, null, 1) + "\n");
  console.log(`wrote ${json}: ${report.entries.length} entries`);
  return 0;
}

if (import.meta.main) {
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    Deno.exit(2);
  }
}
