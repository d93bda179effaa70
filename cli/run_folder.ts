/** The folder of a new run and the configuration of an old one, with every path made absolute. */
import { isAbsolute, resolve } from "node:path";
import { ConfigError, loadConfig, parseConfig, type TrainConfig } from "../config.ts";
import { mathsDigest, runFolder } from "../actors/run_identity.ts";
import type { CommandLine } from "./arguments.ts";

/** Where a run starts. */
export interface RunStart {
  readonly config: TrainConfig;
  /** Whether it goes on with an earlier run. */
  readonly resumed: boolean;
}

/**
 * The configuration that a command line asks for, its run folder settled.
 *
 * @param defaultFolder image folder where the configuration names none.
 * @throws {ConfigError} for a configuration that cannot be used.
 */
export async function startOf(
  line: CommandLine,
  run: { preset?: string; now: Date; defaultFolder: (config: TrainConfig) => Promise<string> },
): Promise<RunStart> {
  const { options, overrides } = line;
  if (options.resume !== undefined) return { config: await resumedConfig(options.resume, overrides), resumed: true };
  const preset = options.preset ?? run.preset;
  const loaded = await loadConfig({ preset, file: options.config, overrides });
  const folder = resolve(loaded.data.folder || await run.defaultFolder(loaded));
  const named = overrides.some(([key]) => key === "name" || key === "run.name");
  const stamp = run.now.toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  const base = { ...loaded, data: { ...loaded.data, folder } };
  const name = loaded.run.name || preset || "run";
  const parent = resolve(loaded.run.folder);
  if (named && await exists(`${parent}/${name}`)) {
    throw new ConfigError(
      "run.name",
      `run ${parent}/${name} exists; choose another --name, or go on with it: deno task pretrain --resume ${parent}/${name}`,
    );
  }
  const free = named ? name : await freeName(parent, `${name}-${stamp}`);
  const config = parseConfig({ ...base, run: { folder: parent, name: free } }, { source: "the configuration" });
  await Deno.mkdir(runFolder(config), { recursive: true });
  return { config, resumed: false };
}

async function freeName(parent: string, name: string): Promise<string> {
  for (let count = 1;; count++) {
    const candidate = count === 1 ? name : `${name}-${count}`;
    if (!await exists(`${parent}/${candidate}`)) return candidate;
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, () => false);
}

/** The configuration in a run's `run.json`, with overrides that leave the numbers as they are. */
export async function resumedConfig(
  folder: string,
  overrides: readonly (readonly [string, string])[] = [],
): Promise<TrainConfig> {
  const path = isAbsolute(folder) ? folder : resolve(folder);
  const stored = await readRunConfig(path);
  const changed = overrides.length === 0
    ? stored
    : await loadConfig({ overrides: [...flatten(stored), ...overrides.map(([key, value]) => [key, value])] });
  if (mathsDigest(changed) !== mathsDigest(stored)) {
    const keys = overrides.map(([key]) => key).join(", ");
    throw new ConfigError(
      keys,
      `cannot resume ${path} with ${keys}: options that change the numbers must stay as they were; only cluster, checkpoint, run and data.cacheBytes may differ`,
    );
  }
  const parent = path.slice(0, path.lastIndexOf("/"));
  const run = { folder: parent, name: path.slice(parent.length + 1) };
  return parseConfig({ ...changed, run }, { source: `${path}/run.json` });
}

/** The configuration that a run was started with. */
export async function readRunConfig(folder: string): Promise<TrainConfig> {
  let text: string;
  try {
    text = await Deno.readTextFile(`${folder}/run.json`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new ConfigError("resume", `${folder} is no run: it holds no run.json; name the folder that a run printed`);
  }
  const description: unknown = JSON.parse(text);
  const config = typeof description === "object" && description !== null && "config" in description
    ? description.config
    : undefined;
  return parseConfig(config, { source: `${folder}/run.json` });
}

/** A configuration as dotted overrides. */
function flatten(config: TrainConfig): [string, string][] {
  const rows: [string, string][] = [];
  const visit = (value: unknown, path: string): void => {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [key, item] of Object.entries(value)) visit(item, path === "" ? key : `${path}.${key}`);
    } else if (value !== undefined) rows.push([path, Array.isArray(value) ? JSON.stringify(value) : String(value)]);
  };
  visit(config, "");
  return rows;
}
