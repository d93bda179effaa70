/** The command line: finds the command, prints an error in one line, ends with its exit code. All else is in `cli/`. */
import { processRoles } from "./actors/roles.ts";
import { runActorProcess } from "./actors/runtime/process.ts";
import { runPolicy } from "./actors/who_may_send.ts";
import { type CommandLine, parseCommandLine } from "./cli/arguments.ts";
import { helpText } from "./cli/help.ts";
import { nearest } from "./config/nearest.ts";

type Command = (line: CommandLine, argv: readonly string[]) => Promise<number>;

/** Commands are imported when called: an actor's process must not load what it has no permission for. */
const commands: Readonly<Record<string, () => Promise<Command>>> = {
  tune: async () => (await import("./cli/tune.ts")).tuneCommand,
  pretrain: async () => (await import("./cli/pretrain.ts")).pretrainCommand,
  quickstart: async () => (await import("./cli/quickstart.ts")).quickstartCommand,
  embed: async () => (await import("./cli/embed.ts")).embedCommand,
  search: async () => (await import("./cli/embed.ts")).searchCommand,
  evaluate: async () => (await import("./cli/evaluate.ts")).evaluateCommand,
  export: async () => (await import("./cli/export.ts")).exportCommand,
  import: async () => (await import("./cli/import.ts")).importCommand,
  host: async () => (await import("./cli/host.ts")).hostCommand,
  status: async () => (await import("./cli/diagnosis.ts")).statusCommand,
  postmortem: async () => (await import("./cli/diagnosis.ts")).postmortemCommand,
  plan: async () => (await import("./cli/plan.ts")).planCommand,
};

async function main(argv: readonly string[]): Promise<number> {
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

if (import.meta.main) {
  if (Deno.args[0] === "actor") await runActorProcess(processRoles, { policy: runPolicy });
  try {
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (Deno.env.get("SEER_DEBUG") === "1") console.error(error);
    else console.error(`error: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
