/**
 * The strict comparison of weights with the network they are meant for, and the one error that lists every difference.
 * It changes nothing and knows no file.
 */
import type { SafeTensor } from "../checkpoint/safetensors.ts";
import { WeightsError } from "./error.ts";
import type { ExpectedTensor } from "./network.ts";

/** How weights and a network compare; names are those of the file. */
export interface WeightsReport {
  readonly matched: readonly string[];
  /** The network has it, the file does not. */
  readonly missing: readonly string[];
  /** The file has it, the network does not. */
  readonly unexpected: readonly string[];
  /** Both have it, with another shape or element type; each with both. */
  readonly mismatched: readonly string[];
}

/** Names that an error shows of each kind. */
const SHOWN_MAX = 8;

/** Element types that weights may have; counters are integers. */
const FLOATS = ["F32", "F16", "BF16", "F64"];

/**
 * Compares tensors with what a network must have. Counters of batches may be missing. A `[out, in]` tensor fits
 * `[out, in, 1, 1]` and the reverse.
 *
 * @param options.nameOf the file's name of a tensor; the same name when absent
 */
export function compareWeights(
  tensors: ReadonlyMap<string, SafeTensor>,
  expected: readonly ExpectedTensor[],
  options: { nameOf?: (name: string) => string; foreign?: readonly string[] } = {},
): WeightsReport {
  const { nameOf = (name) => name, foreign = [] } = options;
  const matched: string[] = [], missing: string[] = [], mismatched: string[] = [];
  const known = new Set(expected.map(({ name }) => name));
  for (const { name, shape, counter = false } of expected) {
    const found = tensors.get(name);
    if (found === undefined) {
      if (!counter) missing.push(nameOf(name));
      continue;
    }
    const problem = counter ? counterProblem(found) : weightProblem(found, shape);
    if (problem === undefined) matched.push(nameOf(name));
    else mismatched.push(`${nameOf(name)} (${problem})`);
  }
  const unexpected = [...tensors.keys()].filter((name) => !known.has(name)).map(nameOf);
  return { matched, missing, unexpected: [...unexpected, ...foreign], mismatched };
}

function counterProblem({ dtype, shape }: SafeTensor): string | undefined {
  const count = shape.reduce((product, length) => product * length, 1);
  return count === 1 ? undefined : `network [], file [${shape.join(", ")}] of ${dtype}`;
}

function weightProblem({ dtype, shape }: SafeTensor, expected: readonly number[]): string | undefined {
  if (!FLOATS.includes(dtype)) return `must be floats, file has ${dtype}`;
  const significant = (lengths: readonly number[]) => lengths.join("x").replace(/(x1)+$/, "");
  if (significant(shape) === significant(expected)) return undefined;
  return `network [${expected.join(", ")}], file [${shape.join(", ")}]`;
}

/** Whether nothing differs. */
export function isComplete({ missing, unexpected, mismatched }: WeightsReport): boolean {
  return missing.length + unexpected.length + mismatched.length === 0;
}

/** The report in one line: `166 matched, 2 missing (a, b), …`. */
export function describeReport({ matched, missing, unexpected, mismatched }: WeightsReport): string {
  const part = (title: string, names: readonly string[]) => {
    if (names.length === 0) return [];
    const shown = names.slice(0, SHOWN_MAX).map((name) => name.slice(0, 200)).join(", ");
    return [`${names.length} ${title} (${shown}${names.length > SHOWN_MAX ? ", …" : ""})`];
  };
  return [
    `${matched.length} matched`,
    ...part("missing", missing),
    ...part("unexpected", unexpected),
    ...part("of another shape", mismatched),
  ].join("; ");
}

/**
 * Refuses weights that do not fit completely.
 *
 * @throws {WeightsError} listing everything missing, unexpected and of another shape.
 */
export function requireComplete(report: WeightsReport, what: string): void {
  if (isComplete(report)) return;
  throw new WeightsError(`Cannot use ${what}: every tensor must fit the network; ${describeReport(report)}`);
}
