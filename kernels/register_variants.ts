/**
 * The registers family: matrix multiplies, and convolutions as plain kernels with passes of their own before and after
 * them where a shape asks for fused ones. On a CPU such a pass costs little beside a convolution, while a fused load would be made once per
 * tap and tile: loads from tables cost as much as ten multiplications there. Weight gradients load each input once per
 * tile anyway and normalise it then. Knows no operation's arithmetic.
 */
import { batchNormMomentPartials, batchNormMoments } from "./batch_norm.ts";
import { batchNormGradientPartials } from "./batch_norm_gradient.ts";
import { conv2dForward, conv2dInputGradient, conv2dWeightGradient } from "./conv2d.ts";
import { forwardByLines } from "./conv2d_forward.ts";
import { inputGradientByLines } from "./conv2d_input_gradient.ts";
import { byChannels, channelTile } from "./conv2d_input_gradient_channels.ts";
import { conv2dOutput, type Conv2dShape } from "./conv2d_shape.ts";
import { byLines, lineTile } from "./line_product.ts";
import { matmul, type MatmulShape } from "./matmul.ts";
import { maskedGradientSums, normalisedLoad, type NormalisedShape } from "./normalised.ts";
import type { Conv2dForwardRole, Conv2dInputGradientRole, Conv2dWeightGradientRole, MatmulRole } from "./operations.ts";
import { type RegisterTile, registerTile } from "./register_product.ts";
import { memoized } from "./tiles.ts";
import type { Capabilities, Launch, Program, Storage, Variant } from "./variant.ts";

/** The shape without its fused passes, so that shapes that differ in these alone share one kernel. */
function plainOf({ load: _load, moments: _moments, ...shape }: Conv2dShape): Conv2dShape {
  return shape;
}

/** The pass over the input that the shape's load stands for; `undefined` for a plain one. */
function loadOf({ batch, height, width, inChannels, load = "plain", storage = "f32" }: Conv2dShape):
  | NormalisedShape
  | undefined {
  if (load === "plain") return undefined;
  return { images: batch, pixels: height * width, channels: inChannels, load, storage };
}

/** Why no kernel of this family runs with that storage. */
function refusesStorage({ storage = "f32" }: { storage?: Storage }, { features }: Capabilities): string | undefined {
  return storage === "f16" && !features.includes("f16") ? "the device has no f16" : undefined;
}

/** A tile that is offered beside the default one. */
interface NamedTile extends Required<RegisterTile> {
  readonly name: string;
}

/**
 * Tiles worth timing. All of them and the default add in the same order, so the choice changes no bit of a result; which
 * is quicker depends on how full the last tiles are and on how much the compiler keeps in registers.
 */
const TILES: readonly NamedTile[] = [
  { name: "registers 6x32", tileRows: 6, tileColumns: 32 },
  { name: "registers 8x16", tileRows: 8, tileColumns: 16 },
];

/** The variants of an operation whose results are tiled in registers: the default, and every tile that differs from it. */
function tiled<Shape extends object, Role extends string>(
  { program, refuses, tileOf }: {
    program: (shape: Shape & RegisterTile) => Program<Role>;
    refuses: Variant<Shape, Role>["refuses"];
    /** The tile that the wanted one comes to. */
    tileOf: (shape: Shape, wanted?: RegisterTile) => { rows: number; columns: number };
  },
): readonly Variant<Shape, Role>[] {
  const made = memoized(program);
  const sizeOf = (shape: Shape, tile?: RegisterTile) => {
    const { rows, columns } = tileOf(shape, tile);
    return `${rows}x${columns}`;
  };
  return [
    { name: "registers", family: "registers", refuses, program: made },
    ...TILES.map(({ name, tileRows, tileColumns }, number): Variant<Shape, Role> => ({
      name,
      family: "registers",
      refuses(shape, device) {
        const others = [undefined, ...TILES.slice(0, number)];
        const same = others.some((other) => sizeOf(shape, other) === sizeOf(shape, { tileRows, tileColumns }));
        return refuses(shape, device) ?? (same ? "the tile is that of another variant at this shape" : undefined);
      },
      program: (shape) => made({ ...shape, tileRows, tileColumns }),
    })),
  ];
}

function forwardProgram({ tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile): Program<Conv2dForwardRole> {
  const { storage = "f32", moments = false, batch, outChannels } = shape;
  const { height, width, inputLength } = conv2dOutput(shape);
  const load = loadOf(shape);
  const launches: Launch<Conv2dForwardRole>[] = [];
  if (load !== undefined) {
    const tables = load.load === "normalised relu gated" ? ["normaliser", "gate"] as const : ["normaliser"] as const;
    launches.push({ kernel: normalisedLoad(load), buffers: ["input", ...tables, "workspace"] });
  }
  const from = load === undefined ? "input" : "workspace";
  launches.push({
    kernel: conv2dForward({ ...plainOf(shape), tileRows, tileColumns }),
    buffers: [from, "weight", "output"],
  });
  const norm = { rows: batch * height * width, channels: outChannels, storage };
  if (moments) launches.push({ kernel: batchNormMoments(norm), buffers: ["output", "moments"] });
  return {
    launches,
    workspaceBytes: load === undefined ? 0 : (storage === "f16" ? 2 : 4) * inputLength,
    ...(moments ? { partialBytes: 4 * batchNormMomentPartials(norm) } : {}),
  };
}

/** Forward convolutions of this family. */
export const registerForwardVariants: readonly Variant<Conv2dShape, Conv2dForwardRole>[] = tiled({
  program: forwardProgram,
  refuses: refusesStorage,
  tileOf(shape, wanted) {
    const { height, width } = conv2dOutput(shape);
    const columns = shape.outChannels / shape.groups;
    return byLines({ taps: shape.kernelWidth, columns })
      ? lineTile(forwardByLines(shape), wanted)
      : registerTile({ rows: shape.batch * height * width, columns }, wanted);
  },
});

function inputGradientProgram(
  { tileRows, tileColumns, ...shape }: Conv2dShape & RegisterTile,
): Program<Conv2dInputGradientRole> {
  const load = loadOf(shape);
  const convolution: Launch<Conv2dInputGradientRole> = {
    kernel: conv2dInputGradient({ ...plainOf(shape), tileRows, tileColumns }),
    buffers: ["outGradient", "weight", "inputGradient"],
  };
  if (load === undefined || load.load === "normalised relu gated") {
    return { launches: [convolution], workspaceBytes: 0 };
  }
  const norm = { rows: load.images * load.pixels, channels: load.channels };
  return {
    launches: [
      convolution,
      { kernel: maskedGradientSums(load), buffers: ["raw", "normaliser", "inputGradient", "sums"] },
    ],
    workspaceBytes: 0,
    partialBytes: 4 * batchNormGradientPartials(norm),
  };
}

/** Input gradients of this family. */
export const registerInputGradientVariants: readonly Variant<Conv2dShape, Conv2dInputGradientRole>[] = tiled({
  program: inputGradientProgram,
  refuses: refusesStorage,
  tileOf(shape, wanted) {
    const { batch, height, width, stride, kernelWidth, inChannels, groups } = shape;
    const columns = inChannels / groups;
    if (byChannels(shape)) return channelTile(shape, wanted);
    const rows = batch * Math.ceil(height / stride) * Math.ceil(width / stride);
    return byLines({ taps: kernelWidth, columns })
      ? lineTile(inputGradientByLines(shape), wanted)
      : registerTile({ rows, columns }, wanted);
  },
});

const weightGradientProgram = memoized((shape: Conv2dShape): Program<Conv2dWeightGradientRole> => {
  const { moments: _moments, ...loaded } = shape;
  const { partial, reduce, workspaceBytes } = conv2dWeightGradient(loaded);
  const tables = {
    "plain": [],
    "normalised": ["normaliser"],
    "normalised relu": ["normaliser"],
    "normalised relu gated": ["normaliser", "gate"],
  } as const;
  const inputs = ["input", "outGradient", ...tables[shape.load ?? "plain"]] as const;
  return {
    launches: reduce === undefined ? [{ kernel: partial, buffers: [...inputs, "weightGradient"] }] : [
      { kernel: partial, buffers: [...inputs, "workspace"] },
      { kernel: reduce, buffers: ["workspace", "weightGradient"] },
    ],
    workspaceBytes,
  };
});

/** Weight gradients of this family. */
export const registerWeightGradientVariants: readonly Variant<Conv2dShape, Conv2dWeightGradientRole>[] = [
  { name: "registers", family: "registers", refuses: refusesStorage, program: weightGradientProgram },
];

/** Matrix multiplies of this family. */
export const registerMatmulVariants: readonly Variant<MatmulShape, MatmulRole>[] = tiled({
  program: (shape: MatmulShape & RegisterTile) => ({
    launches: [{ kernel: matmul(shape), buffers: ["left", "right", "product"] }],
    workspaceBytes: 0,
  }),
  refuses: refusesStorage,
  tileOf: ({ m, n }, wanted) => registerTile({ rows: m, columns: n }, wanted),
});
