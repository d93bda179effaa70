/** What an experiment says about a run: a configuration as an object, over a preset if it names one. */
import { ConfigError, configKeys, loadConfig, type TrainConfig, type TrainConfigInput } from "../config.ts";
import { nearestKey } from "../config/explain.ts";

/** A configuration written in TypeScript; what it leaves out comes from `preset`, or keeps its default. */
export interface Recipe extends TrainConfigInput {
  /** Name of a preset, e.g. `"quickstart"`. */
  readonly preset?: string;
}

/**
 * The whole configuration of a recipe.
 *
 * @throws {ConfigError} naming the key at fault, what it has to be and what was found.
 */
export async function resolveRecipe(recipe: Recipe): Promise<TrainConfig> {
  const { preset, ...input } = recipe;
  return await loadConfig({ preset, overrides: overridesOf(input) });
}

/**
 * A configuration's values by dotted key; lists stay what they are.
 *
 * @throws {ConfigError} naming the nearest right key in place of an unknown one.
 */
export function overridesOf(input: TrainConfigInput): Record<string, unknown> {
  const known = new Set(configKeys.map((key) => key.path));
  const rows: Record<string, unknown> = {};
  const visit = (value: unknown, path: string): void => {
    const isGroup = typeof value === "object" && value !== null && !Array.isArray(value) && !known.has(path);
    if (isGroup) {
      for (const [key, item] of Object.entries(value)) visit(item, path === "" ? key : `${path}.${key}`);
    } else if (value !== undefined) {
      if (!known.has(path)) {
        throw new ConfigError(
          path,
          `cannot use the recipe: there is no key "${path}"; did you mean "${nearestKey(path)}"?`,
        );
      }
      rows[path] = value;
    }
  };
  visit(input, "");
  return rows;
}
