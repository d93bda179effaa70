/** Finds the command that a command line names, and runs it. */
import { nearest } from "../config/nearest.ts";
import { type CommandLine, parseCommandLine } from "./arguments.ts";
import { helpText } from "./help.ts";

type Command = (line: CommandLine, argv: readonly string[]) => Promise<number>;

/** Commands are imported when called: an actor's process must not load what it has no permission for. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  tune: async () => (await import("./tune.ts")).tuneCommand,
  pretrain: async () => (await import("./pretrain.ts")).pretrainCommand,
  quickstart: async () => (await import("./quickstart.ts")).quickstartCommand,
  embed: async () => (await import("./embed.ts")).embedCommand,
  search: async () => (await import("./embed.ts")).searchCommand,
  evaluate: async () => (await import("./evaluate.ts")).evaluateCommand,
  export: async () => (await import("./export.ts")).exportCommand,
  import: async () => (await import("./import.ts")).importCommand,
  host: async () => (await import("./host.ts")).hostCommand,
  status: async () => (await import("./diagnosis.ts")).statusCommand,
  postmortem: async () => (await import("./diagnosis.ts")).postmortemCommand,
  plan: async () => (await import("./plan.ts")).planCommand,
};

/** Runs the command that `argv` names; resolves to the exit code. */
export async function main(argv: readonly string[]): Promise<number> {
  const line = parseCommandLine(argv);
  if (line.options.help || line.command === "help") {
    console.log(helpText);
    return 0;
  }
  const command = commands[line.command];
  if (command === undefined) {
    const names = Object.keys(commands);
    console.error(
      `error: there is no command "${line.command}"; did you mean "${nearest(line.command, names)}"? Known: ${
        names.join(", ")
      }`,
    );
    return 2;
  }
  return await (await command())(line, argv);
}
