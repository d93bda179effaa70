/**
 * The body of `deno task test`: formatting, lint and types; then every test file in a process of its own, with the
 * environment that finds a WebGPU adapter; then the examples in the documentation. It ends in one line of counts, taken
 * from the test runner's own reports; a gate that fails counts as one failure. Words as arguments choose the test files
 * whose path holds one of them, and leave out the gates and the examples.
 */
import { pooledMap } from "@std/async/pool";
import { probeAdapters } from "../setup/adapters.ts";
import { runCommand } from "../setup/command.ts";
import { ensureVulkan } from "../setup/vulkan.ts";
import { readJunit } from "./junit.ts";

const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");

/** Test processes at a time: two keep both cores busy while one of them waits for files, processes or the GPU. */
const JOBS = Number(Deno.env.get("SEER_TEST_JOBS") ?? 2);

const FILE_TIMEOUT_MS = 480_000;
const GATE_TIMEOUT_MS = 300_000;

const REPORT_LINES_MAX = 200;

/** Files that take minutes start first, so that none of them runs alone at the end. */
const LONGEST_FIRST = ["tests/reference/pretrain_steps", "tests/examples/", "tests/reference/regnety"];

/** What tests may do: they start processes with LD_LIBRARY_PATH (which needs all of run) and talk over loopback. */
const PERMISSIONS = [
  "--no-prompt",
  "--allow-read",
  "--allow-write",
  "--allow-env",
  "--allow-net=127.0.0.1,localhost,[::1],nowhere.invalid",
  "--allow-run",
  "--allow-ffi",
  "--allow-sys",
];

/**
 * Exit codes of a process that a native crash ended: SIGABRT and SIGSEGV. Deno's WebGPU now and then aborts on the software
 * adapter while the process ends, after the report of all tests is written; a crash before that leaves no report.
 */
const EXIT_CRASHES: readonly number[] = [134, 139];

/** The outcome of one gate, test file or set of examples. */
interface Outcome {
  readonly name: string;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  readonly seconds: number;
  /** What to show when something failed. */
  readonly report: string;
}

async function timed(name: string, action: () => Promise<Omit<Outcome, "name" | "seconds">>): Promise<Outcome> {
  const start = performance.now();
  return { name, ...await action(), seconds: (performance.now() - start) / 1000 };
}

/** A check by a tool of Deno's: counts nothing when it passes, one failure when it does not. */
function runGate(name: string, args: readonly string[]): Promise<Outcome> {
  return timed(name, async () => {
    const env = { NO_COLOR: "1" };
    const result = await runCommand(Deno.execPath(), { args, cwd: ROOT, timeoutMs: GATE_TIMEOUT_MS, env });
    const ending = result.timedOut ? `\npassed its deadline of ${GATE_TIMEOUT_MS / 1000} s` : "";
    const report = `${result.stdout}\n${result.stderr}${ending}`.trim();
    return { passed: 0, failed: result.code === 0 ? 0 : 1, skipped: 0, report };
  });
}

/** Runs tests in one process of the test runner and counts by its report. */
function runTests(name: string, { args, env, reports }: TestProcess): Promise<Outcome> {
  return timed(name, async () => {
    const junit = `${reports}/${name.replaceAll(/[^\w.-]/g, "_")}.xml`;
    const result = await runCommand(Deno.execPath(), {
      args: ["test", ...PERMISSIONS, `--junit-path=${junit}`, ...args],
      cwd: ROOT,
      timeoutMs: FILE_TIMEOUT_MS,
      env: { ...env, NO_COLOR: "1" },
    });
    const counts = readJunit(await Deno.readTextFile(junit).catch(() => ""));
    const done = counts.passed > 0 && counts.failed === 0;
    const crashedAtExit = done && EXIT_CRASHES.includes(result.code) && !result.timedOut;
    if (crashedAtExit) {
      console.log(`note   ${name}: its process crashed (${result.code}) after its last test had passed`);
    }
    const broken = result.code !== 0 && counts.failed === 0 && !crashedAtExit;
    const ending = result.timedOut
      ? `passed its deadline of ${FILE_TIMEOUT_MS / 1000} s`
      : `ended with status ${result.code}`;
    return {
      ...counts,
      failed: counts.failed + (broken ? 1 : 0),
      report: `${result.stdout}\n${result.stderr}\n${broken ? `the test process ${ending}` : ""}`.trim(),
    };
  });
}

/** One process of the test runner. */
interface TestProcess {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Folder for the runner's reports. */
  readonly reports: string;
}

async function listFiles(folder: string, isWanted: (path: string) => boolean): Promise<string[]> {
  const files: string[] = [];
  for await (const entry of Deno.readDir(`${ROOT}/${folder}`)) {
    const path = folder ? `${folder}/${entry.name}` : entry.name;
    if (entry.isDirectory && !/^(?:\.|golden$|runs$|coverage$|shared$|node_modules$)/.test(entry.name)) {
      files.push(...await listFiles(path, isWanted));
    } else if (entry.isFile && isWanted(path)) files.push(path);
  }
  return files.sort();
}

function rank(file: string): number {
  const place = LONGEST_FIRST.findIndex((start) => file.startsWith(start));
  return place < 0 ? LONGEST_FIRST.length : place;
}

/** Sources and pages that hold an example: a block of TypeScript in a docstring or in Markdown. */
async function listExamples(): Promise<string[]> {
  const files = await listFiles("", (path) => /\.(?:ts|md)$/.test(path) && !/^(?:tests|tools|bench)\//.test(path));
  const withExample: string[] = [];
  for (const file of files) {
    const text = await Deno.readTextFile(`${ROOT}/${file}`);
    if (/^\s*(?:\*\s*)?```(?:ts|typescript|js)\s*$/m.test(text)) withExample.push(file);
  }
  return withExample;
}

/** The end of a report, where the runner sums up its failures, without lines that no one can read. */
function shorten(report: string): string {
  const lines = report.split("\n").map((line) => line.length > 300 ? `${line.slice(0, 300)} …` : line);
  const left = lines.length - REPORT_LINES_MAX;
  return left > 0 ? [`(${left} lines left out)`, ...lines.slice(left)].join("\n") : lines.join("\n");
}

function print(outcome: Outcome): void {
  const verdict = outcome.failed > 0 ? "FAILED" : "ok    ";
  const parts = [
    ...outcome.passed ? [`${outcome.passed} passed`] : [],
    ...outcome.failed ? [`${outcome.failed} failed`] : [],
    ...outcome.skipped ? [`${outcome.skipped} skipped`] : [],
  ];
  console.log(`${verdict} ${outcome.name} ${parts.join(", ")}`.trimEnd() + ` (${outcome.seconds.toFixed(1)} s)`);
  if (outcome.failed > 0) console.log(shorten(outcome.report).replace(/^/gm, "       ") + "\n");
}

/** The gates, one at a time: each uses every core. */
async function runGates(): Promise<Outcome[]> {
  const gates: [string, string[]][] = [
    ["formatting", ["fmt", "--check"]],
    ["lint", ["lint"]],
    ["types", ["check", "."]],
  ];
  const outcomes: Outcome[] = [];
  for (const [name, args] of gates) {
    const outcome = await runGate(name, args);
    print(outcome);
    outcomes.push(outcome);
  }
  return outcomes;
}

/** The line that a person and a machine read last. */
export function closingLine(outcomes: readonly Pick<Outcome, "passed" | "failed" | "skipped">[]): string {
  const sum = (field: "passed" | "failed" | "skipped") => outcomes.reduce((total, each) => total + each[field], 0);
  const skipped = sum("skipped");
  return `${sum("passed")} passed, ${sum("failed")} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`;
}

async function main(words: readonly string[]): Promise<number> {
  const start = performance.now();
  const outcomes: Outcome[] = words.length === 0 ? await runGates() : [];
  const env = await ensureVulkan({ log: (line) => console.log(line) });
  const reports = await Deno.makeTempDir({ prefix: "seer-test-" });
  const files = (await listFiles("tests", (path) => path.endsWith("_test.ts")))
    .filter((path) => words.length === 0 || words.some((word) => path.includes(word)))
    .sort((a, b) => rank(a) - rank(b));
  // Types have been checked; a chosen file is checked on its own.
  const check = words.length === 0 ? ["--no-check"] : [];
  const { adapters, refusals } = await probeAdapters(env);
  for (const { provider, reason } of refusals) console.log(`Not tested: provider "${provider}" ${reason}`);
  if (adapters.length === 0) console.log("Not tested: no provider shows an adapter; see deno task doctor");
  const run = async (file: string) => {
    const outcome = await runTests(file, { args: [...check, file], env, reports });
    print(outcome);
    return outcome;
  };
  outcomes.push(...await Array.fromAsync(pooledMap(JOBS, files, run)));
  const examples = words.length === 0 ? await listExamples() : [];
  if (examples.length > 0) {
    const outcome = await runTests("examples in the documentation", { args: ["--doc", ...examples], env, reports });
    print(outcome);
    outcomes.push(outcome);
  }
  await Deno.remove(reports, { recursive: true });
  if (files.length === 0) console.log(`No test file's path holds ${words.map((word) => `"${word}"`).join(" or ")}`);
  const slowest = outcomes.toSorted((a, b) => b.seconds - a.seconds).slice(0, 5);
  console.log(`\nSlowest: ${slowest.map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(", ")}`);
  console.log(`In all ${((performance.now() - start) / 1000).toFixed(0)} s`);
  console.log(closingLine(outcomes));
  return files.length > 0 && outcomes.every(({ failed }) => failed === 0) ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
