/**
 * Which stretches of a RegNetY are run again in the backward pass (activation checkpointing), and what memory that saves,
 * by arithmetic on the shapes. A network's units are its stem (0) and its blocks (1 …); a segment is a run of units whose
 * activations are not kept. It runs nothing.
 */
import { regnetBlocks, type RegnetSpec } from "./regnet_spec.ts";

/** A run of units, first and last. */
export type Segment = readonly [first: number, last: number];

/** Numbers that one unit's pass over one image keeps for its backward pass. */
export interface UnitActivations {
  /** All, the unit's output included. */
  readonly all: number;
  readonly output: number;
  /** The most gradients that are alive at once while the unit goes backward. */
  readonly gradients: number;
}

/** Side of the output after `halvings` convolutions of stride 2. */
export function halvedSide(side: number, halvings: number): number {
  return halvings === 0 ? side : halvedSide(Math.floor((side - 1) / 2) + 1, halvings - 1);
}

/** What each unit keeps for one image of `size` pixels: raw outputs of its convolutions and its own output. */
export function unitActivations(spec: RegnetSpec, size: number): UnitActivations[] {
  const { stemWidth = 32 } = spec;
  const stem = stemWidth * halvedSide(size, 1) ** 2;
  const blocks = regnetBlocks(spec).map(({ stage, stride, inWidth, width, squeezeWidth, projected }) => {
    const output = width * halvedSide(size, stage + 2) ** 2;
    const inSide = halvedSide(size, stride === 2 ? stage + 1 : stage + 2);
    const wide = width * inSide ** 2, input = inWidth * inSide ** 2;
    const squeeze = squeezeWidth > 0 ? 2 * width + squeezeWidth : 0;
    return {
      all: wide + (projected ? 4 : 3) * output + squeeze,
      output,
      // The gradient that came, and the wider of what is being made.
      gradients: output + Math.max(2 * output, wide + Math.max(output, input)),
    };
  });
  return [{ all: 2 * stem, output: stem, gradients: 2 * stem }, ...blocks];
}

/** One forward pass of the trunk within a step: what its units keep over all its images. */
export type PassActivations = readonly UnitActivations[];

/** Units with the segment that each belongs to, if any. */
function segmentOf(segments: readonly Segment[], unit: number): Segment | undefined {
  return segments.find(([first, last]) => unit >= first && unit <= last);
}

/** Numbers that a pass keeps until its backward pass begins. */
function keptBy(units: PassActivations, segments: readonly Segment[], until = units.length): number {
  let kept = 0;
  for (let unit = 0; unit < until; unit++) {
    const segment = segmentOf(segments, unit);
    if (segment === undefined) kept += units[unit].all;
    // The input of a segment is the output before it, which the unit before it or the step keeps.
    else if (unit === segment[1]) kept += units[unit].output;
  }
  return kept;
}

/**
 * Numbers alive at the worst moment of a step over these passes, forward one after the other and backward the last first.
 * An estimate: what ops need in passing, beside activations and their gradients, is left out.
 */
export function peakActivations(passes: readonly PassActivations[], segments: readonly Segment[]): number {
  let peak = 0, before = 0;
  for (const units of passes) {
    const whole = keptBy(units, segments);
    peak = Math.max(peak, before + whole);
    for (let unit = units.length - 1; unit >= 0; unit--) {
      const segment = segmentOf(segments, unit);
      const first = segment?.[0] ?? unit;
      let alive = keptBy(units, segments, first);
      for (let inside = first; inside <= unit; inside++) alive += units[inside].all;
      peak = Math.max(peak, before + alive + units[unit].gradients);
    }
    before += whole;
  }
  return peak;
}

/** Every unit of a network as a segment of its own. */
function eachAlone(count: number): Segment[] {
  return Array.from({ length: count }, (_, unit) => [unit, unit]);
}

/**
 * Segments that need the least memory; or, with a bound on {@linkcode peakActivations}, the fewest first units run again
 * that meet it (early units have the most bytes and the fewest operations), all of them where none do.
 */
export function chooseSegments(passes: readonly PassActivations[], budget?: number): Segment[] {
  const count = passes[0].length;
  if (budget !== undefined) {
    for (let units = 0; units <= count; units++) {
      const segments = eachAlone(units);
      if (peakActivations(passes, segments) <= budget) return segments;
    }
  }
  let best: Segment[] = [], least = peakActivations(passes, []);
  // Shorter first: where the worst moment lies in early units, running late ones again saves nothing.
  for (const candidate of [...eachAlone(count).map((_, i) => eachAlone(i + 1)), ...pairings(count)]) {
    const peak = peakActivations(passes, candidate);
    if (peak < least) [best, least] = [candidate, peak];
  }
  return best;
}

/** Segments of 2 … count units each from unit `start` on, the units before it alone. */
function* pairings(count: number): Generator<Segment[]> {
  for (let length = 2; length <= count; length++) {
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
