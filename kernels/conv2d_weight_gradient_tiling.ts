/**
 * How convolution's gradient for its weights is divided: the register tile of an invocation, the pixels that it takes at a
 * time, and the runs of lines whose sums are added in the end. Pure arithmetic.
 */
import { conv2dOutput, type Conv2dShape } from "./conv2d_shape.ts";
import { LANES } from "./tiles.ts";

/** Workgroups worth having before a sum is split no further: keeps many cores busy, and partial sums few. */
const TILES_WANTED = 64;
/** Pixels that a run has at least. */
const RUN_PIXELS_MIN = 64;
/** Pixels at a time at most. */
const PIXELS_MAX = 4;
/** Sums of a tile that holds all kernel rows at most. */
const SUMS_MAX = 72;
/** Bytes that a workspace has at most. */
const WORKSPACE_BYTES_MAX = 64 * 2 ** 20;

/** The register tile of an invocation, and the runs. */
export interface Tiling {
  /** Kernel rows whose taps are in one tile: all, or 1. */
  readonly kernelRows: number;
  /** Taps of a kernel row whose input channels are in one tile: all, or 1. */
  readonly taps: number;
  readonly channels: number;
  readonly channelTiles: number;
  readonly rowTiles: number;
  /** Output channels of a lane, {@linkcode LANES} apart. */
  readonly columns: number;
  readonly columnTiles: number;
  /** Output pixels of a line that are taken at a time. */
  readonly pixels: number;
  /** Neighbouring channels that one load of the input moves. */
  readonly loaded: 1 | 4;
  readonly runs: number;
  /** Lines of output pixels in a run. */
  readonly runLines: number;
}

/** The tiling of a shape; runs, and with them the order of sums, do not hang on how pixels are taken. */
export function tilingOf(shape: Conv2dShape): Tiling {
  const { batch, inChannels, outChannels, kernelHeight, kernelWidth, groups } = shape;
  const output = conv2dOutput(shape);
  const groupIn = inChannels / groups;
  const groupOut = outChannels / groups;
  const wholeRow = kernelWidth > 1 && groupIn * kernelWidth <= 24;
  const taps = wholeRow ? kernelWidth : 1;
  const channels = wholeRow ? groupIn : Math.min(16, groupIn);
  const channelTiles = Math.ceil(groupIn / channels);
  const columns = Math.min(4, Math.ceil(groupOut / LANES));
  const columnTiles = Math.ceil(groupOut / (columns * LANES));
  const lines = batch * output.height;
  // Tiles of one kernel row each; where a tile holds several, the sums are still split as if it held one.
  const rowTiles = wholeRow ? kernelHeight : kernelHeight * kernelWidth * channelTiles;
  const wanted = Math.max(
    1,
    Math.min(
      Math.ceil(TILES_WANTED / (rowTiles * columnTiles * groups)),
      Math.floor(lines * output.width / RUN_PIXELS_MIN),
      Math.floor(WORKSPACE_BYTES_MAX / (4 * output.weightLength)),
      lines,
    ),
  );
  const runLines = Math.ceil(lines / wanted);
  const runs = Math.ceil(lines / runLines);
  const { pixels, loaded } = pixelsAtATime({ ...shape, taps, channels });
  const wholeKernel = wholeRow && loaded === 4 && kernelHeight * taps * channels * columns <= SUMS_MAX;
  const kernelRows = wholeKernel ? kernelHeight : 1;
  return {
    kernelRows,
    pixels,
    loaded,
    taps,
    channels,
    channelTiles,
    rowTiles: rowTiles / kernelRows,
    columns,
    columnTiles,
    runs,
    runLines,
  };
}

/**
 * A load in fours costs little more than one of single numbers, and all lanes together then load several pixels' channels
 * at once; sums that stay in registers over several pixels are written back less often.
 */
function pixelsAtATime(
  shape: Conv2dShape & { taps: number; channels: number },
): Pick<Tiling, "pixels" | "loaded"> {
  const { inChannels, groups, stride, taps, channels } = shape;
  const { width } = conv2dOutput(shape);
  if (channels % 4 !== 0 || (inChannels / groups) % 4 !== 0) return { pixels: 1, loaded: 1 };
  const kept = Math.max(0, taps - stride);
  const fits = (pixels: number) => ((pixels - 1) * stride + taps - kept) * channels / 4 <= LANES;
  let pixels = 1;
  while (pixels < Math.min(PIXELS_MAX, width) && fits(pixels + 1)) pixels++;
  return { pixels, loaded: pixels === 1 ? 1 : 4 };
}
