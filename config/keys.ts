/**
 * The table of all configuration keys, read off the schema once: dotted path, type in words, default, description. The
 * command line, the "did you mean" of errors and the reference page all use this one table. It knows no values.
 */
import { z } from "zod";
import { trainConfigSchema } from "./schema.ts";

/** One configuration key. */
export interface ConfigKey {
  /** Dotted path, e.g. `"schedule.learningRate"`; items of a list of objects as `"crops[].size"`. */
  readonly path: string;
  /** What a value looks like, e.g. `"number"`, `"\"larc\" | \"sgd\""`, `"list of integers"`. */
  readonly type: string;
  /** How text from a command line becomes a value. */
  readonly kind: "number" | "boolean" | "string" | "list" | "record";
  readonly default: unknown;
  readonly description: string;
}

interface Node {
  type?: string;
  enum?: string[];
  default?: unknown;
  description?: string;
  properties?: Record<string, Node>;
  items?: Node;
  prefixItems?: Node[];
}

function typeText(node: Node): string {
  if (node.enum) return node.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (node.prefixItems) return `list of ${node.prefixItems.length} numbers`;
  if (node.type === "array") {
    const item = node.items ?? {};
    return item.properties ? "list of objects" : `list of ${item.type}s`;
  }
  if (node.type === "object") return "object of strings";
  return node.type ?? "any";
}

function kindOf(node: Node): ConfigKey["kind"] {
  if (node.type === "array") return "list";
  if (node.type === "object") return "record";
  if (node.type === "boolean") return "boolean";
  return node.type === "number" || node.type === "integer" ? "number" : "string";
}

function walk(node: Node, path: string, keys: ConfigKey[]): void {
  for (const [name, child] of Object.entries(node.properties ?? {})) {
    const childPath = path === "" ? name : `${path}.${name}`;
    if (child.properties) {
      walk(child, childPath, keys);
      continue;
    }
    keys.push({
      path: childPath,
      type: typeText(child),
      kind: kindOf(child),
      default: child.default,
      description: child.description ?? "",
    });
    if (child.items?.properties) walk(child.items, `${childPath}[]`, keys);
  }
}

function readKeys(): readonly ConfigKey[] {
  const schema = z.toJSONSchema(trainConfigSchema, { io: "input" }) as Node;
  const keys: ConfigKey[] = [];
  walk(schema, "", keys);
  return keys;
}

/** All keys, in the schema's order. */
export const configKeys: readonly ConfigKey[] = readKeys();

/** Short command-line names of long keys. */
export const shortOptions: Readonly<Record<string, string>> = {
  data: "data.folder",
  gpu: "cluster.gpu",
  trainers: "cluster.trainers",
  tune: "cluster.tune",
  port: "cluster.port",
  name: "run.name",
  probe: "probe.protocols",
  every: "probe.everySteps",
};
