/**
 * The command `evaluate`: of a run, k-NN, linear probe and retrieval of its trunk beside a random one and raw pixels; of
 * any weights, one protocol by name.
 */
import { resolve } from "node:path";
import { checkEvaluation, evaluateRun } from "../api/evaluate_run.ts";
import { ConfigError } from "../config.ts";
import { formatReport } from "../evaluate/report.ts";
import { PROTOCOL_NAMES } from "../evaluate/protocols.ts";
import type { CommandLine } from "./arguments.ts";
import { protocolCommand } from "./protocol.ts";

/** Runs `evaluate RUN` or `evaluate PROTOCOL --weights FILE --data DIR`; resolves to the exit code. */
export async function evaluateCommand(line: CommandLine): Promise<number> {
  const { operands, options, overrides } = line;
  const [folder] = operands;
  if (folder === undefined) {
    throw new ConfigError(
      "run",
      "evaluate needs the folder of a run, or a protocol with --weights and --data: deno task evaluate runs/NAME",
    );
  }
  if (
    PROTOCOL_NAMES.includes(folder as typeof PROTOCOL_NAMES[number]) || overrides.some(([key]) => key === "weights")
  ) {
    return await protocolCommand(folder, line);
  }
  const other = overrides.find(([key]) => key !== "data" && key !== "data.folder");
  if (other !== undefined) {
    throw new ConfigError(other[0], `evaluate has no option --${other[0]}; it takes --data DIR and --json FILE`);
  }
  const run = resolve(folder);
  const data = overrides.at(-1)?.[1];
  await checkEvaluation(run, data);
  await printEvaluation(run, { data, json: options.json });
  return 0;
}

/** Evaluates a run with a line of progress for each kind of features, and prints the table. */
export async function printEvaluation(run: string, options: { data?: string; json?: string }): Promise<void> {
  const terminal = Deno.stdout.isTerminal();
  console.log("\nevaluating: features of every image, labels used for the first time");
  const report = await evaluateRun(run, {
    data: options.data,
    log: (line) => console.log(line),
    onProgress(name, done, total) {
      if (terminal) {
        const text = `\r\x1b[2Kfeatures (${name}): ${done} of ${total} images`;
        Deno.stdout.writeSync(new TextEncoder().encode(done === total ? `${text}\n` : text));
      } else if (done === total) console.log(`features (${name}): ${total} images`);
    },
  });
  console.log(`\n${formatReport(report)}`);
  if (options.json !== undefined) await Deno.writeTextFile(options.json, JSON.stringify(report, null, 2) + "\n");
}
