/**
 * Small pieces that the kernels' WGSL is put together from: grids of tiles folded into WebGPU's bounds, vector types and
 * unrolled lines. Knows no operation.
 */

import type { Kernel, KernelFeature } from "./kernel.ts";
import type { Storage } from "./variant.ts";

/** WebGPU's bound on workgroups per dimension. */
const WORKGROUPS_MAX = 65_535;

/**
 * Invocations of a workgroup where each computes a register tile of its own. On software adapters the 8 lanes of a
 * workgroup are one vector register, and loads from buffers go lane by lane at about ten times the cost of a
 * multiplication; so lanes load different values and hand them to each other.
 */
export const LANES = 8;

/**
 * Declares `opaque`, a zero that compilers cannot see through, given `workgroup: vec3u` of a two-dimensional grid. Added
 * to a loop's bound it keeps them from unrolling the loop: Mesa's software driver otherwise spends seconds on a kernel.
 */
export const OPAQUE_ZERO = "let opaque = workgroup.z;";

/** A grid for any number of tiles, and the WGSL expression of a tile's number given `workgroup: vec3u`. */
export interface TileGrid {
  readonly workgroups: readonly [number, number, number];
  readonly tile: string;
  /** Statement that ends the workgroups beyond the last tile; empty where there are none. */
  readonly guard: string;
}

/** Folds `tiles` workgroups into x and y. The number of a tile is uniform over its workgroup. */
export function tileGrid(tiles: number): TileGrid {
  const rows = Math.ceil(tiles / WORKGROUPS_MAX);
  if (rows === 1) return { workgroups: [tiles, 1, 1], tile: "workgroup.x", guard: "" };
  const columns = Math.ceil(tiles / rows);
  return {
    workgroups: [columns, rows, 1],
    tile: `(workgroup.y * ${columns}u + workgroup.x)`,
    guard: rows * columns === tiles ? "" : `if (workgroup.y * ${columns}u + workgroup.x >= ${tiles}u) { return; }`,
  };
}

/** Elements that one load or store moves: 4 where `length` allows it. */
export function vectorWidth(...lengths: readonly number[]): 1 | 4 {
  return lengths.every((length) => length % 4 === 0) ? 4 : 1;
}

/** The WGSL type of `width` floats. */
export function floats(width: 1 | 4): string {
  return width === 4 ? "vec4f" : "f32";
}

/** How `width` stored numbers of a buffer are declared, loaded as f32, and made from f32. */
export interface Cells {
  /** WGSL type of the buffer's elements. */
  readonly type: string;
  /** WGSL of a loaded element as f32 (of `width` floats). */
  readonly load: (stored: string) => string;
  /** WGSL of f32 numbers as they are stored. */
  readonly store: (value: string) => string;
}

/** The {@linkcode Cells} of a storage. */
export function cellsOf(storage: Storage, width: 1 | 4 = 1): Cells {
  const type = floats(width);
  if (storage === "f32") return { type, load: (stored) => stored, store: (value) => value };
  const half = width === 4 ? "vec4<f16>" : "f16";
  return { type: half, load: (stored) => `${type}(${stored})`, store: (value) => `${half}(${value})` };
}

/** What a kernel over such storage requires. */
export function storageFeatures(storage: Storage): readonly KernelFeature[] {
  return storage === "f16" ? ["f16"] : [];
}

/** Component `index` of a value of `width` floats. */
export function component(value: string, index: number, width: 1 | 4): string {
  return width === 4 ? `${value}.${"xyzw"[index]}` : value;
}

/** A value of `width` floats made of that many expressions. */
export function gather(parts: readonly string[]): string {
  return parts.length === 1 ? parts[0] : `vec4f(${parts.join(", ")})`;
}

/**
 * The value whose number `index`, WGSL, is. Storing a tile row by row in a loop with this keeps the code short: a store
 * becomes some forty branches on software adapters, and seconds of compiling when unrolled for a whole tile.
 */
export function chosen(values: readonly string[], index: string): string {
  return values.reduce((others, value, number) => `select(${others}, ${value}, ${index} == ${number}u)`);
}

/** 0 … count − 1. */
export function range(count: number): number[] {
  return Array.from({ length: count }, (_, index) => index);
}

/** Lines of WGSL for every index below `count`. */
export function unroll(count: number, line: (index: number) => string): string {
  return range(count).map(line).join("\n");
}

/** Keeps what `make` returns per value of its shape, so that equal shapes give the same {@linkcode Kernel} object. */
export function memoized<Shape extends object, Result>(make: (shape: Shape) => Result): (shape: Shape) => Result {
  const made = new Map<string, Result>();
  return (shape) => {
    const key = JSON.stringify(shape, Object.keys(shape).sort());
    const known = made.get(key);
    if (known !== undefined) return known;
    const result = make(shape);
    made.set(key, result);
    return result;
  };
}

/** How lanes get values that all of them need: handed round in a subgroup, or loaded by each. */
export type Sharing = "subgroups" | "none";

/** WGSL that loads values which all lanes need, and what each of the values is called. */
export interface SharedValues {
  readonly load: string;
  readonly values: readonly string[];
}

/**
 * Loads `count` values that are the same for all lanes. `at` gives the WGSL of the load of the value with that number,
 * itself WGSL; it may be asked for numbers past the end, up to the next multiple of {@linkcode LANES}.
 */
export function sharedValues(
  name: string,
  { count, sharing, at }: { count: number; sharing: Sharing; at: (number: string) => string },
): SharedValues {
  const values = range(count).map((j) => `${name}${j}`);
  if (sharing === "none") {
    return {
      values,
      load: values.map((value, j) => `let ${value} = ${at(`${j}u`)};`).join("\n"),
    };
  }
  const loads = unroll(Math.ceil(count / LANES), (q) => `let ${name}_lane${q} = ${at(laneNumber(q))};`);
  const hand = values.map((value, j) =>
    `let ${value} = subgroupBroadcast(${name}_lane${Math.floor(j / LANES)}, ${j % LANES}u);`
  );
  return { values, load: [loads, ...hand].join("\n") };
}

/** The number, in WGSL, of the value that a lane loads in round `round`. */
export function laneNumber(round: number): string {
  return round === 0 ? "lane" : `(lane + ${round * LANES}u)`;
}

/** A kernel that shares values within subgroups, and runs without sharing on devices that have none. */
export function sharing(make: (sharing: Sharing) => Kernel): Kernel {
  const shared = make("subgroups");
  return { ...shared, requires: [...(shared.requires ?? []), "subgroups"], otherwise: make("none") };
}
