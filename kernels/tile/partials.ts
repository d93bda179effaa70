/**
 * Partial sums (moments, gradient sums) of many tiles merged into few chunks, in order: whoever finishes them walks through
 * the chunks of a channel one after the other, which thousands of tiles would make slow. Knows no problem.
 */
import type { Kernel } from "../kernel.ts";
import { blockSums, once, pointwise, vectorOf } from "../wgsl.ts";
import type { Launch } from "../variant.ts";
import type { GemmBuffer, GemmPartials } from "./problem.ts";

/** Chunks that are given on as they are, and how many there are about when merged. */
const CHUNKS_MAX = 128;
const CHUNKS_MERGED = 64;

/** Where a problem's partials go, and what runs afterwards. */
export interface PartialsPlan<Role extends string> {
  readonly buffer: GemmBuffer<Role>;
  readonly after: readonly Launch<Role>[];
  readonly workspaceBytes: number;
  /** Chunks in the end. */
  readonly merged: number;
}

/** Plans the partials of `chunks` tiles, bound under their role; through the workspace where they are many. */
export function planPartials<Role extends string>(
  { kind, channels }: Pick<GemmPartials, "kind" | "channels">,
  { role, chunks }: { role: Role; chunks: number },
): PartialsPlan<Role> {
  const parts = kind === "moments" ? 3 : 2;
  const length = chunks * parts * channels;
  const each = chunks > CHUNKS_MAX ? Math.ceil(chunks / CHUNKS_MERGED) : 1;
  const buffer = {
    role: each === 1 ? role : "workspace" as const,
    name: kind,
    access: "write" as const,
    type: `array<f32, ${length}>`,
  };
  if (each === 1) return { buffer, after: [], workspaceBytes: 0, merged: chunks };
  return {
    buffer,
    after: [{ kernel: merge({ kind, channels, chunks, each }), buffers: ["workspace", role] }],
    workspaceBytes: 4 * length,
    merged: Math.ceil(chunks / each),
  };
}

/** Binds (partials `[chunks, parts, channels]`, merged): `each` neighbouring chunks become one, moments by Chan's formula. */
function merge(
  { kind, channels, chunks, each }: Pick<GemmPartials, "kind" | "channels"> & { chunks: number; each: number },
): Kernel {
  const label = `merge of ${chunks} chunks of ${kind} by ${each}, ${channels} channels`;
  return once(`tile ${label}`, () => {
    const { element, width } = vectorOf(channels);
    const lanes = channels / width;
    const parts = kind === "moments" ? 3 : 2;
    const stride = parts * lanes;
    const invocations = Math.ceil(chunks / each) * lanes;
    const sums: Readonly<Record<string, string>> = kind === "moments"
      ? { total: "partials[at]", count: `partials[at + ${2 * lanes}u]` }
      : { total: "partials[at]", product: `partials[at + ${lanes}u]` };
    const rest = kind === "moments"
      ? `
  let mean = total / count;
  var squares = ${element}(0);
  for (var at = first; at < end; at += ${stride}u) {
    let rows = partials[at + ${2 * lanes}u];
    let d = partials[at] / rows - mean;
    squares += partials[at + ${lanes}u] + d * d * rows;
  }
  merged[to + ${lanes}u] = squares;
  merged[to + ${2 * lanes}u] = count;`
      : `
  merged[to + ${lanes}u] = product;`;
    return pointwise({
      label,
      storage: [["partials", "read", element], ["merged", "write", element]],
      invocations,
      count: `${invocations}u`,
      body: `
  let chunk = i / ${lanes}u;
  let first = chunk * ${each * stride}u + i % ${lanes}u;
  let end = min((chunk + 1u) * ${each}u, ${chunks}u) * ${stride}u;
  let to = chunk * ${stride}u + i % ${lanes}u;
  ${blockSums({ element, first: "first", end: "end", stride, sums })}
  merged[to] = total;${rest}`,
    });
  });
}
