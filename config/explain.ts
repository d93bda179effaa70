/** Turns zod's list of issues into one sentence for the user. It knows the keys and no rule of its own. */
import type { z } from "zod";
import { ConfigError } from "./error.ts";
import { configKeys } from "./keys.ts";
import { nearest } from "./nearest.ts";

type Issue = z.core.$ZodIssue;

function dotted(path: readonly PropertyKey[]): string {
  return path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    "",
  );
}

/** Replaces the item numbers of `path` as the key table writes them. */
function general(path: string): string {
  return path.replaceAll(/\[\d+\]/g, "[]");
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  let value = input;
  for (const part of path) {
    if (typeof value !== "object" || value === null) return undefined;
    value = Reflect.get(value, part);
  }
  return value;
}

function show(value: unknown): string {
  if (value === undefined) return "nothing";
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function requirement(issue: Issue): string {
  switch (issue.code) {
    case "invalid_type":
      return `be ${/^[aeiou]/.test(issue.expected) ? "an" : "a"} ${
        issue.expected === "int" ? "integer" : issue.expected
      }`;
    case "invalid_value":
      return `be one of ${issue.values.map((value) => JSON.stringify(value)).join(", ")}`;
    case "too_small": {
      const bound = `${issue.inclusive ? "at least" : "more than"} ${issue.minimum}`;
      return issue.origin === "array" ? `have ${bound} ${issue.minimum === 1 ? "item" : "items"}` : `be ${bound}`;
    }
    case "too_big": {
      const bound = `${issue.inclusive ? "at most" : "less than"} ${issue.maximum}`;
      return issue.origin === "array" ? `have ${bound} items` : `be ${bound}`;
    }
    default:
      return `be valid (${issue.message})`;
  }
}

/** The nearest known key to `path`, and groups too, so that `optimiser` finds `optimizer`. */
export function nearestKey(path: string): string {
  const leaves = configKeys.map((key) => key.path);
  const groups = leaves.flatMap((leaf) => {
    const parts = leaf.split(".");
    return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("."));
  });
  return nearest(general(path), [...new Set([...leaves, ...groups])]);
}

/** One error for the first of `issues`, saying how many more there are. */
export function explainIssues(
  issues: readonly Issue[],
  options: { readonly input: unknown; readonly source: string },
): ConfigError {
  const unknown = issues.find((issue) => issue.code === "unrecognized_keys");
  const more = issues.length > 1 ? ` (and ${issues.length - 1} more)` : "";
  if (unknown) {
    const path = dotted([...unknown.path, unknown.keys[0]]);
    return new ConfigError(
      path,
      `cannot use ${options.source}: there is no key "${path}"; did you mean "${nearestKey(path)}"?${more}`,
    );
  }
  const issue = issues[0];
  const path = dotted(issue.path);
  const subject = path === "" ? "it" : path;
  const found = show(valueAt(options.input, issue.path));
  return new ConfigError(
    path,
    `cannot use ${options.source}: ${subject} must ${requirement(issue)}, found ${found}${more}`,
  );
}
