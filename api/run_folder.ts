/**
 * The folder of a new run, the configuration of an old one, with every path made absolute. It reads `run.json` and checks
 * names; it starts and writes nothing.
 */
import { resolve } from "node:path";
import { mathsDigest } from "../actors/run_identity.ts";
import { countClasses } from "../actors/training_images.ts";
import { ConfigError, learnsLabels, loadConfig, parseConfig, type TrainConfig } from "../config.ts";
import type { RecordedKernels } from "./tuning.ts";

/** A run that can be started: folders absolute, name settled. */
export interface RunStart {
  readonly config: TrainConfig;
  /** Whether it goes on with an earlier run. */
  readonly resumed: boolean;
  /** What the earlier run recorded of its kernels. */
  readonly kernels?: RecordedKernels;
}

/** What {@linkcode newRun} needs to settle the folders of a run. */
export interface NewRunOptions {
  /** Whether the user chose `run.name`; else the time is added, so that every run has a folder of its own. */
  readonly named: boolean;
  /** What a run without a name is called. */
  readonly fallbackName: string;
  readonly now: Date;
  /** Image folder where the configuration names none. */
  readonly defaultFolder: () => Promise<string>;
}

/**
 * Settles folder and name of a new run, and the number of classes where it learns from labels.
 *
 * @throws {ConfigError} when a run of the chosen name exists, or its images lack the labels that its method needs.
 */
export async function newRun(loaded: TrainConfig, options: NewRunOptions): Promise<RunStart> {
  const parent = resolve(loaded.run.folder);
  const name = loaded.run.name || options.fallbackName;
  if (/[/\\]|^\.+$/.test(name)) {
    throw new ConfigError(
      "run.name",
      `cannot start a run: run.name must be a plain name without slashes, found "${name}"`,
    );
  }
  const stamp = options.now.toISOString().slice(0, 16).replace("T", "-").replace(":", "");
  if (options.named && await exists(`${parent}/${name}`)) {
    throw new ConfigError(
      "run.name",
      `run ${parent}/${name} exists; choose another --name, or go on with it: deno task pretrain --resume ${parent}/${name}`,
    );
  }
  const free = options.named ? name : await freeName(parent, `${name}-${stamp}`);
  const folder = resolve(loaded.data.folder || await options.defaultFolder());
  const settled = {
    ...loaded,
    data: { ...loaded.data, folder },
    probe: absoluteProbe(loaded),
    run: { folder: parent, name: free },
  };
  const config = parseConfig(settled, { source: "the configuration" });
  if (!learnsLabels(config) || config.method.classes !== undefined) return { config, resumed: false };
  const method = { ...config.method, classes: await countClasses(config) };
  return { config: parseConfig({ ...settled, method }, { source: "the configuration" }), resumed: false };
}

/** The evaluator's process has a working folder of its own. */
function absoluteProbe({ probe }: TrainConfig): TrainConfig["probe"] {
  return probe.data === "" ? probe : { ...probe, data: resolve(probe.data) };
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

/**
 * The configuration of a run that is to go on, with overrides (values, or text as on a command line, by dotted key) that
 * leave the numbers as they are.
 *
 * @throws {ConfigError} when `folder` is no run, or an override would change the numbers.
 */
export async function resumedRun(folder: string, overrides: Readonly<Record<string, unknown>> = {}): Promise<RunStart> {
  const path = resolve(folder);
  const description = await readDescription(path);
  const stored = configOf(description, path);
  const keys = Object.keys(overrides).join(", ");
  const changed = keys === "" ? stored : await loadConfig({ overrides: { ...flatten(stored), ...overrides } });
  if (mathsDigest(changed) !== mathsDigest(stored)) {
    throw new ConfigError(
      keys,
      `cannot resume ${path} with ${keys}: options that change the numbers must stay as they were; only cluster, checkpoint, probe, data.folder and data.cacheBytes may differ`,
    );
  }
  const at = path.lastIndexOf("/");
  const run = { folder: path.slice(0, at) || "/", name: path.slice(at + 1) };
  const data = { ...changed.data, folder: resolve(changed.data.folder) };
  const config = parseConfig({ ...changed, data, probe: absoluteProbe(changed), run }, { source: `${path}/run.json` });
  return { config, resumed: true, kernels: kernelsOf(description, path) };
}

/**
 * The configuration that a run was started with.
 *
 * @throws {ConfigError} when `folder` is no run, or its `run.json` is damaged.
 */
export async function readRunConfig(folder: string): Promise<TrainConfig> {
  return configOf(await readDescription(folder), folder);
}

async function readDescription(folder: string): Promise<object> {
  let text: string;
  try {
    text = await Deno.readTextFile(`${folder}/run.json`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory)) throw error;
    throw new ConfigError("run", `${folder} is no run: it holds no run.json; name the folder that a run printed`);
  }
  let description: unknown;
  try {
    description = JSON.parse(text);
  } catch {
    throw new ConfigError("run", `cannot read ${folder}/run.json: it must be JSON, found a damaged file`);
  }
  return typeof description === "object" && description !== null ? description : {};
}

function configOf(description: object, folder: string): TrainConfig {
  return parseConfig("config" in description ? description.config : undefined, { source: `${folder}/run.json` });
}

function kernelsOf(description: object, folder: string): RecordedKernels | undefined {
  if (!("kernels" in description)) return undefined;
  const { adapter, choices } = { adapter: "", choices: null, ...Object(description.kernels) };
  const named = typeof choices === "object" && choices !== null &&
    Object.values(choices).every((name) => typeof name === "string");
  if (typeof adapter !== "string" || !named) {
    throw new ConfigError(
      "run",
      `cannot read ${folder}/run.json: its kernels must name variants, found something else`,
    );
  }
  return { adapter, choices };
}

/** A configuration's values by dotted key. */
function flatten(config: TrainConfig): Record<string, unknown> {
  const rows: Record<string, unknown> = {};
  const visit = (value: unknown, path: string): void => {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
      for (const [key, item] of Object.entries(value)) visit(item, path === "" ? key : `${path}.${key}`);
    } else if (value !== undefined) rows[path] = value;
  };
  visit(config, "");
  return rows;
}
