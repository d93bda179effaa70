/** Checks a configuration against the schema and the rules that join options. It knows no file and no preset. */
import { findFault } from "./checks.ts";
import { ConfigError } from "./error.ts";
import { explainIssues } from "./explain.ts";
import { type TrainConfig, trainConfigSchema } from "./schema.ts";

function freeze<T>(value: T): T {
  if (typeof value === "object" && value !== null && !Object.isFrozen(value)) {
    Object.values(value).forEach(freeze);
    Object.freeze(value);
  }
  return value;
}

/**
 * The checked, complete, deeply frozen configuration that `input` describes; defaults fill what it leaves out.
 *
 * @throws ConfigError naming the key, what it has to be and what was found; for an unknown key the nearest known one
 *
 * @example
 * ```ts
 * import { parseConfig } from "./parse.ts";
 * const config = parseConfig({ steps: 10, seed: 7 }, { source: "the example" });
 * if (config.crops.length !== 2) throw new Error("expected the default crops");
 * ```
 */
export function parseConfig(input: unknown, options: { readonly source: string }): TrainConfig {
  const result = trainConfigSchema.safeParse(input);
  if (!result.success) throw explainIssues(result.error.issues, { input, source: options.source });
  const fault = findFault(result.data);
  if (fault) {
    const found = fault.found === undefined ? "nothing" : JSON.stringify(fault.found);
    throw new ConfigError(
      fault.path,
      `cannot use ${options.source}: ${fault.path} must ${fault.requirement}, found ${found}`,
    );
  }
  return freeze(result.data);
}
