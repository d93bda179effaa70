/** Options of the commands `export` and `import`, read from what the command line has besides those of every command. */
import { resolve } from "node:path";
import { ConfigError, modelNames } from "../config.ts";
import { nearest } from "../config/nearest.ts";
import type { RegnetRule } from "../nn/regnet_spec.ts";
import { isTrunkName, type TrunkSpec, trunkSpec } from "../nn/trunk_spec.ts";
import type { CommandLine } from "./arguments.ts";

/** What both commands take. */
const common = ["format", "out", "place", "network", "rule"] as const;

/** Options by name; every one was given at most once and is known to the command. */
export function weightsOptions(
  { command, overrides }: CommandLine,
  known: readonly string[],
): Readonly<Record<string, string | undefined>> {
  const all = [...known, ...common];
  const found: Record<string, string> = {};
  for (const [name, value] of overrides) {
    if (!all.includes(name)) {
      throw new ConfigError(name, `${command} has no option --${name}; did you mean --${nearest(name, all)}?`);
    }
    found[name] = value;
  }
  return found;
}

/** What `--format` names, one of the choices. */
export function formatOption<Format extends string>(
  text: string | undefined,
  choices: readonly Format[],
): Format | undefined {
  if (text === undefined) return undefined;
  const format = choices.find((choice) => choice === text);
  if (format !== undefined) return format;
  throw new ConfigError("format", `--format must be ${choices.join(", ")}; found "${text}"`);
}

/** The trunk that `--network NAME [--rule torchvision]` names. */
export function networkOption(name: string | undefined, rule = "seer"): TrunkSpec | undefined {
  if (name === undefined) return undefined;
  if (!isTrunkName(name)) {
    throw new ConfigError(
      "network",
      `--network must name a published network; did you mean "${nearest(name, modelNames)}"? found "${name}"`,
    );
  }
  const isRule = (text: string): text is RegnetRule => text === "seer" || text === "torchvision";
  if (!isRule(rule)) throw new ConfigError("rule", `--rule must be seer or torchvision; found "${rule}"`);
  return trunkSpec(name, { rule });
}

/** A path as it was typed, or below the working folder in short. */
export function shortPath(path: string): string {
  const here = `${resolve(".")}/`;
  return path.startsWith(here) ? path.slice(here.length) : path;
}
