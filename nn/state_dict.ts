/**
 * A model's weights as named arrays in torchvision's layouts, out of the device and back. Names that do not fit are
 * reported together. Files are not known here.
 */
import { readTensors } from "../tensor/tensor.ts";
import { type Module, type ModuleBuffer, type Parameter, toDevice, toFile } from "./module.ts";

/** One saved tensor, row-major in torchvision's layout. */
export interface StateEntry {
  readonly shape: readonly number[];
  readonly data: Float32Array<ArrayBuffer>;
}

/** Saved tensors by name. */
export type StateDict = Map<string, StateEntry>;

/** What has a state: a module, or several put together. */
export type Stateful = Pick<Module, "parameters" | "buffers">;

const entriesOf = (model: Stateful): (Parameter | ModuleBuffer)[] => [...model.parameters(), ...model.buffers()];

const kindOf = (entry: Parameter | ModuleBuffer) => "kind" in entry ? entry.kind : undefined;

/** All parameters and buffers of the model, fetched in one readback. */
export async function stateDict(model: Stateful): Promise<StateDict> {
  const entries = entriesOf(model);
  const values = await readTensors(entries.map(({ tensor }) => tensor));
  return new Map(entries.map((entry, i) => {
    const { name, shape } = entry;
    return [name, { shape, data: toFile(values[i].slice(), { kind: kindOf(entry), shape }) }];
  }));
}

/** What {@linkcode loadStateDict} did, by name. */
export interface LoadReport {
  readonly matched: readonly string[];
  /** In the model, not in the dict. */
  readonly missing: readonly string[];
  /** In the dict, not in the model. */
  readonly unexpected: readonly string[];
  /** In both, with another shape. */
  readonly mismatched: readonly string[];
}

/**
 * Writes a state dict into the model. `num_batches_tracked` is ignored. A `[out, in]` entry fits an `[out, in, 1, 1]`
 * parameter and the reverse.
 *
 * @throws {TypeError} When `strict` (the default) and anything is missing, unexpected or of another shape; the model is
 * unchanged then.
 */
export function loadStateDict(model: Stateful, dict: StateDict, options: { strict?: boolean } = {}): LoadReport {
  const { strict = true } = options;
  const entries = entriesOf(model);
  const names = new Set(entries.map(({ name }) => name));
  const significant = (shape: readonly number[]) => shape.join("x").replace(/(x1)+$/, "");
  const missing = entries.filter(({ name }) => !dict.has(name)).map(({ name }) => name);
  const unexpected = [...dict.keys()].filter((name) => !names.has(name) && !name.endsWith("num_batches_tracked"));
  const matched: (Parameter | ModuleBuffer)[] = [], mismatched: string[] = [];
  for (const entry of entries) {
    const found = dict.get(entry.name);
    if (!found) continue;
    if (significant(found.shape) === significant(entry.shape)) matched.push(entry);
    else mismatched.push(`${entry.name} (model [${entry.shape.join(", ")}], given [${found.shape.join(", ")}])`);
  }
  const report = { matched: matched.map(({ name }) => name), missing, unexpected, mismatched };
  if (strict && missing.length + unexpected.length + mismatched.length > 0) throw new TypeError(describe(report));
  for (const entry of matched) {
    const found = dict.get(entry.name);
    if (!found) continue;
    const { tensor, shape } = entry;
    tensor.device.write(tensor.buffer, toDevice(found.data, { kind: kindOf(entry), shape }));
  }
  return report;
}

function describe({ matched, missing, unexpected, mismatched }: LoadReport): string {
  const list = (title: string, names: readonly string[]) => {
    if (names.length === 0) return [];
    const shown = names.slice(0, 8).join(", ");
    return [`  ${title} (${names.length}): ${shown}${names.length > 8 ? ", …" : ""}`];
  };
  return [
    `Cannot load the weights: every name and shape must match, ${matched.length} do`,
    ...list("missing", missing),
    ...list("unexpected", unexpected),
    ...list("other shape", mismatched),
    "Load with strict off to take what matches, or check that the file holds the same network",
  ].join("\n");
}
