/** What a vision transformer's shape tells without building it. Pure arithmetic. */
import type { CountedLayer, TrunkShape, UnitActivations } from "./trunk_shape.ts";
import { vitNumbers, type VitSpec } from "./vit_spec.ts";

/**
 * A vision transformer in numbers; the softmax of attention is a layer without parameters.
 *
 * @throws {RangeError} When the shape makes no network.
 */
export function vitShape(spec: VitSpec): TrunkShape {
  const { width, depth, hidden, grid } = vitNumbers(spec);
  const side = (size: number) => Math.floor(size / spec.patch);
  const patches = (size: number) => side(size) ** 2;
  const tokens = (size: number) => patches(size) + 1;
  const linear = (from: number, to: number): CountedLayer => ({
    parameters: from * to + to,
    macs: (size) => from * to * tokens(size),
    outputs: (size) => to * tokens(size),
    normalised: 0,
  });
  const norm = (rows: (size: number) => number): CountedLayer => ({
    parameters: 2 * width,
    macs: () => 0,
    outputs: (size) => width * rows(size),
    normalised: 0,
  });
  const attention: CountedLayer = {
    parameters: 0,
    macs: (size) => 2 * width * tokens(size) ** 2,
    outputs: (size) => spec.heads * tokens(size) ** 2,
    normalised: 0,
  };
  const weights = 3 * spec.patch ** 2 * width;
  const stem: CountedLayer = {
    // Weights and bias of the patches, the class token, positions.
    parameters: weights + 2 * width + (grid * grid + 1) * width,
    macs: (size) => weights * patches(size),
    outputs: (size) => width * tokens(size),
    normalised: 0,
  };
  const block = [
    ...[norm(tokens), linear(width, 3 * width), attention, linear(width, width)],
    ...[norm(tokens), linear(width, hidden), linear(hidden, width)],
  ];
  return {
    family: "vit",
    width,
    stageWidths: [],
    parts: [
      { name: "stem", blocks: 1, width, side, layers: [stem] },
      { name: "blocks", blocks: depth, width, side, layers: Array.from({ length: depth }, () => block).flat() },
      { name: "class token", blocks: 1, width, side: () => 1, layers: [norm(() => 1)] },
    ],
    units: depth + 2,
    unitActivations(size): UnitActivations[] {
      const row = width * tokens(size), wide = hidden * tokens(size), square = spec.heads * tokens(size) ** 2;
      return [
        { all: 5 * row, output: row, gradients: 2 * row },
        // Two norms, two sums, attention; three rows of queries, keys and values; linear layers before and after their bias.
        ...Array.from({ length: depth }, () => ({
          all: 15 * row + 3 * wide + square,
          output: row,
          gradients: 2 * row + Math.max(2 * wide, 2 * square + 4 * row),
        })),
        { all: 2 * width, output: width, gradients: row + width },
      ];
    },
  };
}
