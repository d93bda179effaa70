/**
 * WGSL that moves four (or eight) neighbouring elements between memory and vec4f, by the widest loads that the array's
 * strides allow, and masks what lies outside. Knows no operation.
 */
import { range } from "../tiles.ts";
import type { Storage } from "../variant.ts";
import type { GemmBuffer, TileSizes } from "./problem.ts";

/** Elements that one access of a buffer moves. */
export type Width = 1 | 2 | 4 | 8;

/** An array as a kernel binds it. */
export interface Elements {
  /** WGSL name. */
  readonly name: string;
  readonly storage: Storage;
  readonly width: Width;
  /**
   * Fetches eight f16 of strides that allow only 1 or 2, as words: five loads (four) instead of eight of two bytes. A kernel
   * that has such an array needs its {@linkcode gathering}.
   */
  readonly gathers?: boolean;
}

/** The widest access that all of `strides` (elements) allow; 8, a 16-byte load, only of f16 and where asked for. */
export function widthOf(strides: readonly number[], options: { storage: Storage; fetch?: TileSizes["fetch"] }): Width {
  const { storage, fetch = 4 } = options;
  const widths: readonly Width[] = storage === "f16" && fetch === 8 ? [8, 4, 2] : [4, 2];
  return widths.find((width) => strides.every((stride) => stride % width === 0)) ?? 1;
}

/** An array that is fetched from, its neighbours as far apart as all of `strides` (elements) allow. */
export function elementsOf(
  name: string,
  strides: readonly number[],
  { storage, fetch }: { storage: Storage; fetch: TileSizes["fetch"] },
): Elements {
  const width = widthOf(strides, { storage, fetch });
  return { name, storage, width, gathers: storage === "f16" && fetch === 8 && width <= 2 };
}

const scalar = (storage: Storage) => storage === "f16" ? "f16" : "f32";

/** WGSL vector of four. */
export const vector4 = (storage: Storage) => `vec4<${scalar(storage)}>`;

function elementType({ storage, width, gathers }: Elements): string {
  if (gathers) return "u32";
  if (width === 8) return "vec4u";
  return width === 1 ? scalar(storage) : `vec${width}<${scalar(storage)}>`;
}

/** The binding of `length` elements. */
export function binding<Role extends string>(
  elements: Elements,
  { role, access, length }: { role: Role | "workspace"; access: "read" | "write"; length: number },
): GemmBuffer<Role> {
  const { name, width, gathers } = elements;
  const count = Math.ceil(length / (gathers ? 2 : width));
  return { role, name, access, type: `array<${elementType(elements)}, ${count}>` };
}

/** WGSL type of what {@linkcode fetchOf} gives. */
export function rawType({ storage, width, gathers }: Elements): string {
  if (gathers) return width === 2 ? "vec4u" : "array<u32, 6>";
  return width === 8 ? "vec4u" : vector4(storage);
}

/** Elements that {@linkcode fetchOf} gives. */
export const fetchLength = ({ width, gathers }: Elements): 4 | 8 => width === 8 || gathers ? 8 : 4;

/** WGSL at module scope of an array that gathers; empty for others. */
export function gathering(elements: Elements): string {
  const { name, width, gathers } = elements;
  if (!gathers) return "";
  const words = range(width === 2 ? 4 : 5).map((i) => `${name}[at / 2u + ${i}u]`).join(", ");
  return `fn ${name}Halves(at: u32) -> ${rawType(elements)} { return ${rawType(elements)}(${words}${
    width === 2 ? "" : ", at % 2u"
  }); }`;
}

/** Expression that loads four (or {@linkcode fetchLength}) elements from element `at`, a name or a bracketed expression. */
export function fetchOf({ name, storage, width, gathers }: Elements, at: string): string {
  if (gathers) return `${name}Halves(${at})`;
  if (width >= 4) return `${name}[${at} / ${width}u]`;
  if (width === 2) return `${vector4(storage)}(${name}[${at} / 2u], ${name}[${at} / 2u + 1u])`;
  return `${vector4(storage)}(${range(4).map((i) => `${name}[${at} + ${i}u]`).join(", ")})`;
}

/** The fours in a fetched value, as `as`. */
export function foursOf(elements: Elements, { raw, as }: { raw: string; as: Storage }): string[] {
  const { storage, width, gathers } = elements;
  if (fetchLength(elements) === 4) return [as === storage ? raw : `${vector4(as)}(${raw})`];
  const word = (i: number) =>
    gathers && width === 1
      ? `select(${raw}[${i}], (${raw}[${i}] >> 16u) | (${raw}[${i + 1}] << 16u), ${raw}[5] == 1u)`
      : `${raw}.${"xyzw"[i]}`;
  return [0, 2].map((i) =>
    // wgpu has no bitcast to vec4<f16>; it has no matrix units either, for which f16 is kept.
    as === "f16"
      ? `bitcast<vec4<f16>>(vec2u(${word(i)}, ${word(i + 1)}))`
      : `vec4f(unpack2x16float(${word(i)}), unpack2x16float(${word(i + 1)}))`
  );
}

/** Where a fetch of `width` elements at `position`, WGSL, may start so that it stays below `count`. */
export function clamped(position: string, count: number, width: Width): string {
  return `min(${position}, ${Math.max(0, count - width)}u)`;
}

/**
 * A condition on four neighbours from `first`, WGSL u32, being below `end`: one for all where fours never straddle the
 * end (`whole`), else one each.
 */
export function below(first: string, end: string, whole: boolean): string {
  return whole ? `${first} < ${end}` : `(vec4u(${first}) + vec4u(0u, 1u, 2u, 3u)) < vec4u(${end})`;
}

/** Statements that store the vec4f `value` at element `at`; of the four, those whose number is below `count` where given. */
export function storeOf(
  { name, storage, width }: Elements,
  { at, value, count }: { at: string; value: string; count?: string },
): string {
  if (width === 8) throw new TypeError("Cannot store by width 8: results are stored by at most 4");
  const converted = storage === "f16" ? `vec4<f16>(${value})` : value;
  if (width === 4) return `${name}[${at} / 4u] = ${converted};`;
  const parts = width === 2 ? ["xy", "zw"] : ["x", "y", "z", "w"];
  return parts.map((part, i) => {
    const store = `${name}[${at}${width === 2 ? " / 2u" : ""} + ${i}u] = ${
      storage === "f16" ? `${width === 2 ? "vec2<f16>" : "f16"}(${value}.${part})` : `${value}.${part}`
    };`;
    return count === undefined || i === 0 ? store : `if (${i * width}u < ${count}) { ${store} }`;
  }).join("\n");
}

/**
 * `value`, a name of vec4f, to f16's 11 bits, ties to even, as memory will give it back (numbers that f16 has no normal form
 * for excepted). On the bits, because drivers drop a conversion there and back (Mesa).
 */
export function rounded(value: string, storage: Storage): string {
  if (storage === "f32") return value;
  const bits = `bitcast<vec4u>(${value})`;
  return `bitcast<vec4f>((${bits} + 0xfffu + ((${bits} >> vec4u(13u)) & vec4u(1u))) & vec4u(0xffffe000u))`;
}
