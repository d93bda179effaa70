/**
 * Joins what a user says about a run: a preset, then a `.ts` or `.toml` file over it, then `--key value` pairs over both.
 * It reads the one file it is given and knows no other place to look.
 */
import { parse as parseToml } from "smol-toml";
import { ConfigError } from "./error.ts";
import { nearestKey } from "./explain.ts";
import { type ConfigKey, configKeys, shortOptions } from "./keys.ts";
import { parseConfig } from "./parse.ts";
import { findPreset } from "./presets.ts";
import type { TrainConfig } from "./schema.ts";

/** Where a configuration comes from; later fields win. */
export interface LoadOptions {
  readonly preset?: string;
  /** Path of a `.ts`, `.js` or `.toml` file; a module gives the configuration as its default export. */
  readonly file?: string;
  /** Dotted keys with their values as text, `[["schedule.learningRate", "0.1"]]`, or as values in a record. */
  readonly overrides?: readonly (readonly string[])[] | Readonly<Record<string, unknown>>;
}

type Layer = Record<string, unknown>;

function isLayer(value: unknown): value is Layer {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A layer that says one of these keys takes back the other ones that a layer below said. */
const alternatives: readonly { group?: string; keys: readonly [readonly string[], readonly string[]] }[] = [
  {
    group: "model",
    keys: [["name"], ["family", "stemWidth", "widths", "depths", "groupWidth", "groups", "bottleneck"]],
  },
  { group: "model", keys: [["groupWidth"], ["family", "groups", "bottleneck"]] },
  { keys: [["steps"], ["epochs"]] },
];

function withdraw(base: Layer, layer: Layer): void {
  for (const { group, keys } of alternatives) {
    const below = group === undefined ? base : base[group];
    const above = group === undefined ? layer : layer[group];
    if (!isLayer(below) || !isLayer(above)) continue;
    for (const [mine, others] of [keys, [...keys].reverse()]) {
      if (mine.some((key) => above[key] !== undefined)) others.forEach((key) => delete below[key]);
    }
  }
}

/** Groups merge key by key; everything else, lists included, is replaced. */
function merge(base: Layer, layer: Layer): Layer {
  const result: Layer = { ...base };
  for (const [key, value] of Object.entries(layer)) {
    if (value === undefined) continue;
    const below = result[key];
    result[key] = isLayer(below) && isLayer(value) ? merge(below, value) : value;
  }
  return result;
}

function overlay(base: Layer, layer: Layer): Layer {
  const below = structuredClone(base);
  withdraw(below, layer);
  return merge(below, layer);
}

/** `type` with its article, where it is a plain noun. */
function article(type: string): string {
  if (type.startsWith('"')) return type;
  return `${/^[aeiou]/.test(type) ? "an" : "a"} ${type}`;
}

function parseText(key: ConfigKey, text: string): unknown {
  const refuse = (example: string) =>
    new ConfigError(
      key.path,
      `cannot use the command line: ${key.path} must be ${article(key.type)}, found ${
        JSON.stringify(text)
      }; write it as ${example}`,
    );
  if (key.kind === "string") return text;
  if (key.kind === "boolean") {
    if (text === "true" || text === "") return true;
    if (text === "false") return false;
    throw refuse("true or false");
  }
  if (key.kind === "number") {
    const plain = text.replaceAll("_", "").trim();
    const value = Number(plain);
    if (plain === "" || !Number.isFinite(value)) throw refuse("a plain number");
    return value;
  }
  if (key.type === "list of strings" && !/["[]/.test(text)) {
    return text === "" ? [] : text.split(",").map((word) => word.trim());
  }
  try {
    if (/^\s*[[{]/.test(text)) return JSON.parse(text);
    if (key.kind === "list") return JSON.parse(`[${text}]`);
  } catch {
    // Told below, with the right way to write it.
  }
  throw refuse(key.kind === "list" ? "1,2,3 or as JSON" : "JSON");
}

function override(path: string, value: unknown): Layer {
  const full = Object.hasOwn(shortOptions, path) ? shortOptions[path] : path;
  const key = configKeys.find((known) => known.path === full);
  if (key === undefined && !(isLayer(value) && configKeys.some((known) => known.path.startsWith(`${full}.`)))) {
    throw new ConfigError(
      path,
      `cannot use the command line: there is no key "${path}"; did you mean "${nearestKey(path)}"?`,
    );
  }
  const parsed = key !== undefined && typeof value === "string" ? parseText(key, value) : value;
  return full.split(".").reduceRight<unknown>((inner, part) => ({ [part]: inner }), parsed) as Layer;
}

function overrideLayers(overrides: LoadOptions["overrides"]): Layer {
  const pairs: readonly (readonly [string, unknown])[] = Array.isArray(overrides)
    ? overrides.map(([path, value]) => [path, value ?? ""] as const)
    : Object.entries(overrides ?? {}).filter(([, value]) => value !== undefined);
  return pairs.reduce<Layer>((layer, [path, value]) => overlay(layer, override(path, value)), {});
}

async function readModule(file: string): Promise<unknown> {
  const url = new URL(file, `file://${Deno.cwd()}/`);
  const module: Record<string, unknown> = await import(url.href);
  if (module.default === undefined) {
    throw new ConfigError(
      "",
      `cannot use ${file}: the module must export the configuration as its default, found none`,
    );
  }
  return module.default;
}

async function readFile(file: string): Promise<Layer> {
  const info = await Deno.stat(file).catch(() => undefined);
  if (!info?.isFile) {
    throw new ConfigError("", `cannot read the configuration: ${file} must be a file, found none there`);
  }
  let value: unknown;
  if (/\.(ts|js|mts|mjs)$/.test(file)) value = await readModule(file);
  else if (file.endsWith(".toml")) {
    try {
      value = parseToml(await Deno.readTextFile(file));
    } catch (error) {
      const reason = error instanceof Error ? error.message.split("\n")[0] : String(error);
      throw new ConfigError("", `cannot read ${file}: it must be TOML (${reason})`);
    }
  } else throw new ConfigError("", `cannot read the configuration: a file must end in .ts or .toml, found ${file}`);
  if (!isLayer(value)) throw new ConfigError("", `cannot use ${file}: it must hold an object, found ${typeof value}`);
  return value;
}

/**
 * The configuration that preset, file and overrides describe together. Naming a model withdraws the explicit stages of
 * the layers below and the other way round; so do `steps` and `epochs`.
 *
 * @throws ConfigError naming the source at fault, the key, what it has to be and what was found
 *
 * @example
 * ```ts
 * import { loadConfig } from "./load.ts";
 * const config = await loadConfig({ preset: "test-tiny", overrides: [["schedule.learningRate", "0.1"]] });
 * if (config.schedule.learningRate !== 0.1) throw new Error("expected the override");
 * ```
 */
export async function loadConfig(options: LoadOptions): Promise<TrainConfig> {
  const base = options.preset === undefined ? {} : findPreset(options.preset);
  const file = options.file === undefined ? undefined : await readFile(options.file);
  if (file !== undefined && options.file !== undefined) {
    // On its own first, so that a fault in the file is told as the file's.
    parseConfig(overlay(base, file), { source: options.file });
  }
  const joined = overlay(overlay(base, file ?? {}), overrideLayers(options.overrides));
  const named = options.preset === undefined ? "the configuration" : `preset ${options.preset}`;
  const source = options.overrides === undefined ? named : `${options.file ?? named} with the options given`;
  return parseConfig(joined, { source });
}
