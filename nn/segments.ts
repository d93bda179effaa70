/**
 * Which stretches of a trunk are run again in the backward pass (activation checkpointing), and what memory that saves,
 * by arithmetic on the shapes. A network's units are its stem (0) and its blocks (1 …); a segment is a run of units whose
 * activations are not kept. It runs nothing.
 */
import { trunkShape, type UnitActivations } from "./trunk_shape.ts";
import type { TrunkSpec } from "./trunk_spec.ts";

/** A run of units, first and last. */
export type Segment = readonly [first: number, last: number];

/** Segments from their text, `"3"` or `"4-7"`. */
export function parseSegments(texts: readonly string[]): Segment[] {
  return texts.map((text) => {
    const [first, last = first] = text.split("-").map(Number);
    return [first, last];
  });
}

/** Segments as text, the reverse of {@linkcode parseSegments}. */
export function formatSegments(segments: readonly Segment[]): string {
  return segments.map(([first, last]) => first === last ? String(first) : `${first}-${last}`).join(",");
}

/** One forward pass of the trunk within a step: what its units keep over all its images. */
export type PassActivations = readonly UnitActivations[];

/** Crops of one size. */
interface CropGroup {
  readonly size: number;
  readonly count: number;
}

/** The passes of a step over `images` images of one replica, in bytes. */
export function stepActivations(
  spec: TrunkSpec,
  { crops, images, numberBytes }: { crops: readonly CropGroup[]; images: number; numberBytes: number },
): PassActivations[] {
  const shape = trunkShape(spec);
  return crops.map(({ size, count }) => {
    const factor = images * count * numberBytes;
    return shape.unitActivations(size).map(({ all, output, gradients }) => ({
      all: all * factor,
      output: output * factor,
      gradients: gradients * factor,
    }));
  });
}

/** Numbers that a pass keeps until its backward pass begins, of the units before each; the last of all units. */
function keptBefore(units: PassActivations, segments: readonly Segment[]): number[] {
  const kept = [0];
  for (let unit = 0, next = 0; unit < units.length; unit++) {
    while (next < segments.length && segments[next][1] < unit) next++;
    const segment = segments[next];
    const inside = segment !== undefined && segment[0] <= unit;
    // The input of a segment is the output before it, which the unit before it or the step keeps.
    const own = !inside ? units[unit].all : unit === segment[1] ? units[unit].output : 0;
    kept.push(kept[unit] + own);
  }
  return kept;
}

/**
 * Numbers alive at the worst moment of a step over these passes of each of `replicas` replicas: forward one after the
 * other, then backward the last first. An estimate: what ops need in passing, beside activations and their gradients, is
 * left out. Segments are in order.
 */
export function peakActivations(
  passes: readonly PassActivations[],
  segments: readonly Segment[],
  { replicas = 1 }: { replicas?: number } = {},
): number {
  const tables = passes.map((units) => keptBefore(units, segments));
  const whole = tables.reduce((sum, kept) => sum + kept[kept.length - 1], 0);
  let before = (replicas - 1) * whole, peak = replicas * whole;
  passes.forEach((units, pass) => {
    const kept = tables[pass];
    for (let unit = units.length - 1, next = segments.length - 1; unit >= 0; unit--) {
      while (next >= 0 && segments[next][0] > unit) next--;
      const first = next >= 0 && segments[next][1] >= unit ? segments[next][0] : unit;
      let alive = kept[first];
      for (let inside = first; inside <= unit; inside++) alive += units[inside].all;
      peak = Math.max(peak, before + alive + units[unit].gradients);
    }
    before += kept[kept.length - 1];
  });
  return peak;
}

/** Passes that run side by side (synchronised statistics), as one: their units come and go together. */
export function passesSideBySide(passes: readonly PassActivations[]): PassActivations[] {
  const sum = (numbers: readonly number[]) => numbers.reduce((a, b) => a + b, 0);
  return [passes[0].map((_, unit) => ({
    all: sum(passes.map((units) => units[unit].all)),
    output: sum(passes.map((units) => units[unit].output)),
    gradients: sum(passes.map((units) => units[unit].gradients)),
  }))];
}

/** Every unit of a network as a segment of its own. */
function eachAlone(count: number): Segment[] {
  return Array.from({ length: count }, (_, unit) => [unit, unit]);
}

/**
 * Segments that need the least memory; or, with a bound on {@linkcode peakActivations}, the fewest first units run again
 * that meet it (early units have the most bytes and the fewest operations), all of them where none do.
 */
export function chooseSegments(
  passes: readonly PassActivations[],
  { budget, replicas }: { budget?: number; replicas?: number } = {},
): Segment[] {
  const count = passes[0].length;
  const peakOf = (segments: readonly Segment[]) => peakActivations(passes, segments, { replicas });
  if (budget !== undefined) {
    for (let units = 0; units <= count; units++) {
      const segments = eachAlone(units);
      if (peakOf(segments) <= budget) return segments;
    }
  }
  let best: Segment[] = [], least = peakOf([]);
  // Shorter first: where the worst moment lies in early units, running late ones again saves nothing.
  for (const candidate of [...eachAlone(count).map((_, i) => eachAlone(i + 1)), ...pairings(count)]) {
    const peak = peakOf(candidate);
    if (peak < least) [best, least] = [candidate, peak];
  }
  return best;
}

/** Units of a segment at most, where several are joined. */
const JOINED_MAX = 6;

/** Segments of 2 … 6 units each from unit `start` on, the units before it alone. */
function* pairings(count: number): Generator<Segment[]> {
  for (let length = 2; length <= Math.min(JOINED_MAX, count); length++) {
    for (let start = 0; start < count; start++) {
      const segments = eachAlone(start);
      for (let first = start; first < count; first += length) {
        segments.push([first, Math.min(first + length, count) - 1]);
      }
      yield segments;
    }
  }
}

/**
 * Makes sure that segments lie within a network of `units` units, in order and apart.
 *
 * @throws RangeError naming the first that does not
 */
export function requireSegments(segments: readonly Segment[], units: number): void {
  segments.forEach(([first, last], i) => {
    const after = i === 0 ? 0 : segments[i - 1][1] + 1;
    if (first >= after && last >= first && last < units) return;
    throw new RangeError(
      `Cannot run units ${first}-${last} again: segments must be in order, apart, and within 0-${units - 1}`,
    );
  });
}
