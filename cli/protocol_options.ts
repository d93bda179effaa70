/** Options of `evaluate PROTOCOL`, from text to numbers. */
import { z } from "zod";
import { ConfigError } from "../config.ts";
import { nearest } from "../config/nearest.ts";
import type { CommandLine } from "./arguments.ts";

const count = z.coerce.number().int().min(1);
const positive = z.coerce.number().positive();

const listOf = (item: z.ZodType<number>) => z.preprocess((text) => String(text).split(","), z.array(item).min(1));

/** Options by their name on the command line. */
const options = z.object({
  "weights": z.string(),
  "data": z.string(),
  "features": z.enum(["trunk", "head"]).optional(),
  "random": z.enum(["true", "false"]).optional(),
  "share": positive.max(1).optional(),
  "per-class": count.optional(),
  "list": z.string().optional(),
  "write-list": z.string().optional(),
  "epochs": count.optional(),
  "batch": count.optional(),
  "trunk-rate": z.coerce.number().min(0).optional(),
  "head-rate": positive.optional(),
  "weight-decay": z.coerce.number().min(0).optional(),
  "size": count.optional(),
  "trainers": count.max(64).optional(),
  "listen": z.string().optional(),
  "port": z.coerce.number().int().min(0).max(65_535).optional(),
  "seed": z.coerce.number().int().min(0).optional(),
  "neighbours": listOf(count).optional(),
  "temperatures": listOf(positive).optional(),
  "shots": listOf(count).optional(),
  "draws": count.optional(),
  "costs": listOf(positive).optional(),
});

/** What was given on the command line. */
export type ProtocolOptions = z.infer<typeof options>;

/** @throws {ConfigError} for an option that there is not, or a value that does not fit */
export function parseProtocolOptions(overrides: CommandLine["overrides"]): ProtocolOptions {
  const known = Object.keys(options.shape);
  const given: Record<string, string> = {};
  for (const [name, value] of overrides) {
    if (!known.includes(name)) {
      throw new ConfigError(name, `evaluate has no option --${name}; did you mean --${nearest(name, known)}?`);
    }
    given[name] = value;
  }
  const parsed = options.safeParse(given);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  const name = String(issue.path[0]);
  throw given[name] === undefined
    ? new ConfigError(name, `a protocol needs --${name}: deno task evaluate knn --weights RUN --data DIR`)
    : new ConfigError(name, `--${name} cannot be "${given[name]}": ${issue.message}`);
}
