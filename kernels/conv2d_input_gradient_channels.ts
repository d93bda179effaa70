/**
 * Convolution's gradient for its input on software adapters, where a stride leaves few terms to a sum and groups have as
 * many channels as a workgroup has lanes: lanes lie along the input channels of a group. A lane keeps its weights of the
 * group for all of a workgroup's tiles, so that a tile of neighbouring input pixels is one piece of code without a loop:
 * what lies in the output beside it is loaded once for all taps, lane by channel, and handed round; sums never leave
 * registers. Four pixels are turned over into two quarters of channels, so that a lane stores four numbers at once. The
 * order of a sum is that of `line_product.ts`, and so are the bits.
 */
import { conv2dOutput, type Conv2dShape } from "./conv2d_shape.ts";
import type { Kernel } from "./kernel.ts";
import type { RegisterTile } from "./register_product.ts";
import { cellsOf, LANES, OPAQUE_ZERO, range, storageFeatures, tileGrid, unroll } from "./tiles.ts";

/** Multiplications of a tile at most: twice as many take a second to compile. */
const PRODUCTS_MAX = 512;
/** Tiles that a workgroup computes at most: loading its weights costs it about as much as one or two. */
const TILES_MAX = 32;

/** One product that a result needs: kernel row and column, the result's place in the tile, and that of the left operand. */
interface Use {
  readonly ky: number;
  readonly kx: number;
  readonly result: string;
  readonly y: number;
  readonly x: number;
}

/** Whether the input gradient of that shape is computed by channels. */
export function byChannels(
  { inChannels, outChannels, groups, stride, kernelHeight, kernelWidth }: Conv2dShape,
): boolean {
  return inChannels === groups * LANES && outChannels === groups * LANES && stride > 1 && kernelHeight <= 3 &&
    kernelWidth > 1 && kernelWidth <= 3;
}

/** Pixels of a tile's line, of its `stride` lines, and channels: of the sizes allowed the one that loads least. */
export function channelTile(
  { width, stride, kernelHeight, kernelWidth }: Conv2dShape,
  { tileRows = Infinity }: RegisterTile = {},
): { rows: number; columns: number } {
  const products = kernelHeight * kernelWidth * LANES;
  const most = Math.max(1, Math.floor(Math.min(tileRows / stride, PRODUCTS_MAX / products)));
  const loads = (n: number) => Math.ceil(width / (n * stride)) * (n + Math.ceil(kernelWidth / stride) - 1);
  const best = range(most).map((n) => n + 1).reduce((least, n) => loads(n) <= loads(least) ? n : least);
  return { rows: best * stride, columns: LANES };
}

/** What a tile of `stride` lines of so many pixels needs. */
function usesOf({ kernelHeight, kernelWidth, stride, padding }: Conv2dShape, pixels: number): Use[] {
  return range(kernelHeight).flatMap((ky) =>
    range(kernelWidth).flatMap((kx) =>
      range(stride).flatMap((dy) =>
        range(pixels).filter((dx) => (dy + padding - ky) % stride === 0 && (dx + padding - kx) % stride === 0)
          .map((dx) => ({
            ky,
            kx,
            result: `${dy}_${dx}`,
            y: (dy + padding - ky) / stride,
            x: (dx + padding - kx) / stride,
          }))
      )
    )
  );
}

/** The kernel, for devices with subgroups; binds (outGradient, weights, inputGradient). */
export function inputGradientByChannels(
  label: string,
  { tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile,
): Kernel {
  const { batch, height, width, inChannels, outChannels, kernelHeight, kernelWidth, stride, groups } = shape;
  const { storage = "f32" } = shape;
  const output = conv2dOutput(shape);
  const { rows: pixels } = channelTile(shape, { tileRows, tileColumns });
  const across = Math.ceil(width / pixels), down = Math.ceil(height / stride);
  const tiles = batch * across * down;
  const chunks = Math.ceil(tiles / TILES_MAX);
  const share = Math.ceil(tiles / chunks);
  const grid = tileGrid(groups * chunks);
  const uses = usesOf(shape, pixels);
  const [top, left] = [Math.min(...uses.map(({ y }) => y)), Math.min(...uses.map(({ x }) => x))];
  const one = cellsOf(storage), four = cellsOf(storage, 4);
  const weights = range(kernelHeight * kernelWidth).flatMap((tap) => range(LANES).map((o) => `weight${tap}_${o}`));
  const places = [...new Map(uses.map(({ y, x }) => [`${y - top}_${x - left}`, { y: y - top, x: x - left }]))];

  const wgsl =
    `// Each workgroup computes tiles of ${stride}×${pixels} pixels × ${LANES} channels, a lane for each channel.
@group(0) @binding(0) var<storage, read> outGradient: array<${one.type}, ${output.outputLength}>;
@group(0) @binding(1) var<storage, read> weights: array<${four.type}, ${output.weightLength / 4}>;
@group(0) @binding(2) var<storage, read_write> inputGradient: array<${four.type}, ${output.inputLength / 4}>;

@compute @workgroup_size(${LANES})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) lane: u32) {
${grid.guard}
${OPAQUE_ZERO}
let group = ${grid.tile} % ${groups}u;
let chunk = ${grid.tile} / ${groups}u;
${weights.map((name) => `var ${name} = 0.0;`).join("\n")}
for (var tap = 0u; tap < ${kernelHeight * kernelWidth}u + opaque; tap++) {
${weights.slice(0, -LANES).map((name, n) => `${name} = ${weights[n + LANES]};`).join("\n")}
let at = ((tap * ${LANES}u + lane) * ${outChannels}u + group * ${LANES}u) / 4u;
${
      unroll(LANES / 4, (q) =>
        `let loaded${q} = ${four.load(`weights[at + ${q}u]`)};
${unroll(4, (c) => `${weights[weights.length - LANES + 4 * q + c]} = loaded${q}[${c}];`)}`)
    }
}
let end = min((chunk + 1u) * ${share}u, ${tiles}u);
for (var tile = chunk * ${share}u; tile < end; tile++) {
let tileX = tile % ${across}u;
let tileY = tile / ${across}u % ${down}u;
let image = tile / ${across * down}u;
let outX = i32(tileX) * ${pixels / stride} + ${left};
let outY = i32(tileY) + ${top};
let base = u32(((i32(image) * ${output.height} + outY) * ${output.width} + outX) * ${outChannels}) + group * ${LANES}u + lane;
${
      places.map(([name, { y, x }]) =>
        `let inside${name} = u32(outY + ${y}) < ${output.height}u && u32(outX + ${x}) < ${output.width}u;
let given${name} = select(0.0, ${
          one.load(`outGradient[base + ${(y * output.width + x) * outChannels}u]`)
        }, inside${name});`
      ).join("\n")
    }
${unroll(stride, (dy) => unroll(pixels, (dx) => `var sum${dy}_${dx} = 0.0;`))}
${unroll(kernelHeight, (ky) => unroll(LANES, (o) => turn({ uses, ky, o, kernelWidth, top, left })))}
let y = tileY * ${stride}u;
let x = tileX * ${pixels}u;
let at = ((image * ${height}u + y) * ${width}u + x) * ${inChannels / 4}u + group * ${LANES / 4}u + lane % 2u;
let pixel = lane / 2u;
let channel = lane % 2u * 4u;
${stores(shape, { pixels, store: four.store })}
}
}
`;
  return {
    label,
    wgsl,
    bindings: ["read", "read", "write"],
    workgroups: grid.workgroups,
    requires: [...storageFeatures(storage), "subgroups"],
  };
}

/** All products of one kernel row and output channel, from left to right. */
function turn(
  { uses, ky, o, kernelWidth, top, left }: {
    uses: readonly Use[];
    ky: number;
    o: number;
    kernelWidth: number;
    top: number;
    left: number;
  },
): string {
  const placeOf = ({ y, x }: Use) => `${y - top}_${x - left}`;
  const row = uses.filter((use) => use.ky === ky).sort((a, b) => a.x - b.x);
  const handed = [...new Set(row.map(placeOf))]
    .map((place) => `let left${ky}_${o}_${place} = subgroupBroadcast(given${place}, ${o}u);`);
  const products = row.map((use) => {
    const sum = `sum${use.result}`;
    return `${sum} = fma(left${ky}_${o}_${placeOf(use)}, weight${ky * kernelWidth + use.kx}_${o}, ${sum});`;
  });
  return [...handed, ...products].join("\n");
}

/** Stores a tile, four pixels at a time: lane l gets the channels from 4·(l mod 2) on of pixel ⌊l / 2⌋. */
function stores(
  { height, width, inChannels, stride }: Conv2dShape,
  { pixels, store }: { pixels: number; store: (value: string) => string },
): string {
  const results = range(stride).flatMap((dy) => range(pixels).map((dx) => ({ dy, dx })));
  return unroll(Math.ceil(results.length / 4), (n) => {
    const four = range(4).map((k) => results[Math.min(4 * n + k, results.length - 1)]);
    const value = range(4).map((c) =>
      ofPixel(four.map(({ dy, dx }) => `subgroupShuffle(sum${dy}_${dx}, channel + ${c}u)`))
    );
    const inside = [
      4 * n + 4 > results.length ? `pixel < ${results.length - 4 * n}u` : "",
      height % stride === 0 ? "" : `y + ${ofPixel(four.map(({ dy }) => `${dy}u`))} < ${height}u`,
      width % pixels === 0 ? "" : `x + ${ofPixel(four.map(({ dx }) => `${dx}u`))} < ${width}u`,
    ].filter((condition) => condition !== "");
    const offset = ofPixel(four.map(({ dy, dx }) => `${(dy * width + dx) * inChannels / 4}u`));
    const stored = `inputGradient[at + ${offset}] = ${store(`four${n}`)};`;
    return `let four${n} = vec4f(${value.join(", ")});
${inside.length === 0 ? stored : `if (${inside.join(" && ")}) { ${stored} }`}`;
  });
}

/** The one of four values, WGSL, that belongs to the lane's `pixel`. */
function ofPixel([a, b, c, d]: readonly string[]): string {
  if (a === b && b === c && c === d) return a;
  return `select(select(${a}, ${b}, pixel == 1u), select(${c}, ${d}, pixel == 3u), pixel >= 2u)`;
}
