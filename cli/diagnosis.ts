/** The commands `status` and `postmortem`: what a run's files tell. */
import { resolve } from "node:path";
import { postmortem, readStanding, standingText } from "../api/diagnosis.ts";
import { ConfigError } from "../config.ts";
import type { CommandLine } from "./arguments.ts";

/** Prints where a run's actors stand, as a table or with `--json` as JSON; resolves to the exit code. */
export async function statusCommand(line: CommandLine): Promise<number> {
  const { folder, json } = runOf(line, ["json"]);
  const standing = await readStanding(folder, new Date());
  console.log(json ? JSON.stringify(standing, null, 2) : standingText(standing));
  return 0;
}

/** Prints one page on what happened to a run; resolves to the exit code. */
export async function postmortemCommand(line: CommandLine): Promise<number> {
  console.log(await postmortem(runOf(line, []).folder));
  return 0;
}

function runOf(
  { command, operands, overrides }: CommandLine,
  switches: readonly string[],
): { folder: string; json: boolean } {
  const unknown = overrides.find(([name]) => !switches.includes(name));
  if (unknown !== undefined) throw new ConfigError(unknown[0], `${command} has no option --${unknown[0]}`);
  if (operands.length !== 1) {
    throw new ConfigError("", `${command} needs the folder of one run: deno task seer ${command} RUN`);
  }
  return { folder: resolve(operands[0]), json: overrides.some(([name]) => name === "json") };
}
