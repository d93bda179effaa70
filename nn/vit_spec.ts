/**
 * The shapes of vision transformers: the published table, and the resampling of positions for images of another size.
 * Pure arithmetic; it builds no layer. Sources: arXiv 2010.11929 (ViT-B/16) and 2012.12877 (ViT-S/16, "DeiT-S");
 * torchvision `vision_transformer.py`; arXiv 2104.14294 (DINO) for positions of other sizes.
 */

/** A vision transformer. */
export interface VitSpec {
  readonly kind: "vit";
  /** Side of a patch in pixels. */
  readonly patch: number;
  /** Side of the images that the position embedding has a place a patch for; other sizes resample it. */
  readonly imageSize: number;
  /** Numbers of a token: one entry. */
  readonly widths: readonly number[];
  /** Blocks: one entry. */
  readonly depths: readonly number[];
  readonly heads: number;
  /** Hidden width of a block's two linear layers over the width of a token. */
  readonly mlpRatio: number;
}

function published(width: number, heads: number): VitSpec {
  return { kind: "vit", patch: 16, imageSize: 224, widths: [width], depths: [12], heads, mlpRatio: 4 };
}

/** The published networks by name. */
export const vitTable = {
  "vit_s_16": published(384, 6),
  "vit_b_16": published(768, 12),
} as const satisfies Record<string, VitSpec>;

/** A network of {@linkcode vitTable}. */
export type VitName = keyof typeof vitTable;

/**
 * Width, depth and hidden width of a shape.
 *
 * @throws {RangeError} When the numbers make no network.
 */
export function vitNumbers({ patch, imageSize, widths, depths, heads, mlpRatio }: VitSpec): {
  readonly width: number;
  readonly depth: number;
  readonly hidden: number;
  /** Patches along a side of an image of `imageSize`. */
  readonly grid: number;
} {
  const [width] = widths, [depth] = depths;
  const hidden = Math.round(width * mlpRatio), grid = imageSize / patch;
  if (widths.length !== 1 || depths.length !== 1) {
    throw new RangeError(
      `Cannot lay out a vision transformer: it has one width and one depth, found ${widths.length} and ${depths.length}`,
    );
  }
  if (width % heads !== 0) {
    throw new RangeError(`Cannot lay out a vision transformer: ${heads} heads must divide its width, found ${width}`);
  }
  if (!Number.isInteger(grid)) {
    throw new RangeError(
      `Cannot lay out a vision transformer: patches of ${patch} pixels must divide its images, found ${imageSize}`,
    );
  }
  return { width, depth, hidden, grid };
}

/**
 * Patches along a side of an image; the pixels of an incomplete last patch are not seen.
 *
 * @throws {RangeError} When there is none.
 */
export function patchesAlong({ patch }: VitSpec, size: number): number {
  const count = Math.floor(size / patch);
  if (count < 1) throw new RangeError(`Cannot see an image of ${size} pixels: it must hold a patch of ${patch}`);
  return count;
}

/** Weights of one side's resampling: `[to, from]`, bicubic with a = −0.75, edges repeated, as PyTorch's `interpolate`. */
function cubic(from: number, to: number): Float64Array[] {
  const a = -0.75;
  const near = (x: number) => ((a + 2) * x - (a + 3)) * x * x + 1;
  const far = (x: number) => ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return Array.from({ length: to }, (_, i) => {
    const centre = (i + 0.5) * from / to - 0.5, first = Math.floor(centre), t = centre - first;
    const row = new Float64Array(from);
    for (const [offset, weight] of [[-1, far(t + 1)], [0, near(t)], [1, near(1 - t)], [2, far(2 - t)]]) {
      row[Math.min(from - 1, Math.max(0, first + offset))] += weight;
    }
    return row;
  });
}

/**
 * The matrix `[rows · columns + 1, grid² + 1]` that makes positions of an image of `rows` by `columns` patches out of those
 * of `grid` by `grid`; the class token's, the first, stays.
 */
export function positionResampling(
  grid: number,
  { rows, columns }: { rows: number; columns: number },
): Float32Array<ArrayBuffer> {
  const down = cubic(grid, rows), across = cubic(grid, columns), stride = grid * grid + 1;
  const matrix = new Float32Array((rows * columns + 1) * stride);
  matrix[0] = 1;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const base = (row * columns + column + 1) * stride + 1;
      for (let at = 0; at < grid * grid; at++) {
        matrix[base + at] = down[row][Math.floor(at / grid)] * across[column][at % grid];
      }
    }
  }
  return matrix;
}
