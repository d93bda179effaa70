/**
 * The k largest scores of each row and all that are as good as tied with the k-th, by bisection of the k-th largest value's
 * bits: exact, with no order among invocations that could change the result. It knows no neighbour and no label.
 */
import type { Kernel } from "./kernel.ts";
import { tileGrid } from "./tiles.ts";
import { once } from "./wgsl.ts";

/** Static shape of a selection from `[rows, columns]`. */
export interface TopBandShape {
  readonly rows: number;
  readonly columns: number;
  /** From 1 to `columns`. */
  readonly k: number;
  /** Places for what is found in a row. */
  readonly capacity: number;
}

/** Scores that are below the k-th largest by no more than this are taken too; twice what counts as a tie. */
export const TOP_BAND = 2e-6;

const LANES = 64;

/**
 * Buffers: scores `[rows, columns]`; items `[rows, capacity]` u32, columns in ascending order; values `[rows, capacity]`,
 * their scores; counts `[rows]` u32, how many there are, which may be more than the capacity: the first ones are kept then.
 * Places beyond the count are left as they are. Scores must be numbers. One workgroup a row.
 */
export function topBand({ rows, columns, k, capacity }: TopBandShape): Kernel {
  return once(`top band ${rows}x${columns} ${k} ${capacity}`, () => {
    const { workgroups, tile, guard } = tileGrid(rows);
    return {
      label: `top ${k} of ${rows}x${columns}`,
      bindings: ["read", "write", "write", "write"],
      workgroups,
      wgsl: `
@group(0) @binding(0) var<storage, read> scores: array<f32>;
@group(0) @binding(1) var<storage, read_write> items: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;
@group(0) @binding(3) var<storage, read_write> counts: array<u32>;

var<workgroup> parts: array<u32, ${LANES}>;

// Unsigned integers in the order of the floats.
fn key(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return bits ^ select(0x80000000u, 0xffffffffu, bits >= 0x80000000u);
}

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${guard}
  let row = ${tile};
  let opaque = workgroup.z;
  let rows = arrayLength(&counts);
  let columns = arrayLength(&scores) / rows;
  let capacity = arrayLength(&items) / rows;
  let first = row * columns;
  let end = first + columns;
  // The largest key that k scores reach, bit by bit.
  var bar = 0u;
  for (var round = 0u; round < 32u + opaque; round++) {
    let higher = bar | (0x80000000u >> round);
    var count = 0u;
    for (var at = first + lane; at < end; at += ${LANES}u) { count += select(0u, 1u, key(scores[at]) >= higher); }
    parts[lane] = count;
    workgroupBarrier();
    var total = 0u;
    for (var other = 0u; other < ${LANES}u + opaque; other++) { total += parts[other]; }
    bar = select(bar, higher, total >= ${k}u);
    workgroupBarrier();
  }
  let least = bitcast<f32>(bar ^ select(0xffffffffu, 0x80000000u, bar >= 0x80000000u)) - ${TOP_BAND};
  // Each lane takes a stretch of its own, after all that the lanes before it take.
  let stretch = (columns + ${LANES - 1}u) / ${LANES}u;
  let begin = min(first + lane * stretch, end);
  let stop = min(begin + stretch, end);
  var mine = 0u;
  for (var at = begin; at < stop; at++) { mine += select(0u, 1u, scores[at] >= least); }
  parts[lane] = mine;
  workgroupBarrier();
  var place = 0u;
  for (var other = 0u; other < lane + opaque; other++) { place += parts[other]; }
  for (var at = begin; at < stop; at++) {
    if (scores[at] >= least) {
      if (place < capacity) {
        items[row * capacity + place] = at - first;
        values[row * capacity + place] = scores[at];
      }
      place++;
    }
  }
  if (lane == ${LANES - 1}u) { counts[row] = place; }
}
`,
    };
  });
}

/** What {@linkcode topBand} writes, on the CPU; places beyond a count are 0. */
export function topBandReference(scores: Float32Array, { rows, columns, k, capacity }: TopBandShape): {
  items: Uint32Array<ArrayBuffer>;
  values: Float32Array<ArrayBuffer>;
  counts: Uint32Array<ArrayBuffer>;
} {
  const items = new Uint32Array(rows * capacity), values = new Float32Array(rows * capacity);
  const counts = new Uint32Array(rows);
  for (let row = 0; row < rows; row++) {
    const line = scores.subarray(row * columns, (row + 1) * columns);
    const least = Math.fround(Math.fround(line.toSorted()[columns - k]) - Math.fround(TOP_BAND));
    line.forEach((score, column) => {
      if (!(score >= least)) return;
      const place = counts[row]++;
      if (place >= capacity) return;
      items[row * capacity + place] = column;
      values[row * capacity + place] = score;
    });
  }
  return { items, values, counts };
}
