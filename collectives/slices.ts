/**
 * The flat gradient vector and how it is cut: parameters one after the other in the order given, cut into slices of equal
 * size, slice i owned by shard i mod S. A slice crosses parameter borders, so its size does not depend on the model. It
 * knows no layer, no actor and no device.
 */

/** A parameter and its number of elements. */
export interface SliceParameter {
  readonly name: string;
  readonly size: number;
}

/** The part of one parameter that lies in a slice; all numbers count elements. */
export interface SlicePiece {
  /** Index of the parameter in the plan's order. */
  readonly parameter: number;
  /** First element, counted within the parameter. */
  readonly parameterOffset: number;
  /** Where it goes, counted within the slice. */
  readonly sliceOffset: number;
  readonly length: number;
}

/** A range of the flat vector. */
export interface Slice {
  readonly index: number;
  /** Shard that adds it up. */
  readonly shard: number;
  /** First element, counted within the flat vector. */
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly SlicePiece[];
}

/** The whole cut. */
export interface SlicePlan {
  readonly parameters: readonly SliceParameter[];
  readonly shards: number;
  /** Elements of the flat vector. */
  readonly length: number;
  readonly slices: readonly Slice[];
}

/**
 * Cuts the flat vector of `parameters` into slices of at most `sliceBytes` (f32, 4 bytes an element). Put the parameters
 * in the order in which the backward pass finishes them, and slices become ready one after the other.
 *
 * @throws {RangeError} for an empty list, a bad size, a repeated name, or a slice below one element.
 */
export function planSlices(
  parameters: readonly SliceParameter[],
  options: { sliceBytes: number; shards: number },
): SlicePlan {
  const { shards } = options;
  const sliceLength = Math.floor(options.sliceBytes / 4);
  if (sliceLength < 1) throw new RangeError(`slices need at least 4 bytes, got ${options.sliceBytes}`);
  if (!Number.isInteger(shards) || shards < 1) throw new RangeError(`slices need at least 1 shard, got ${shards}`);
  if (parameters.length === 0) throw new RangeError("slices need at least one parameter, got none");
  const names = new Set<string>();
  for (const { name, size } of parameters) {
    if (names.has(name)) throw new RangeError(`parameter "${name}" is listed twice`);
    if (!Number.isInteger(size) || size < 1) throw new RangeError(`parameter "${name}" needs a size ≥ 1, got ${size}`);
    names.add(name);
  }
  const length = parameters.reduce((sum, { size }) => sum + size, 0);
  const slices: Slice[] = [];
  let [parameter, parameterOffset] = [0, 0];
  for (let offset = 0; offset < length; offset += sliceLength) {
    const pieces: SlicePiece[] = [];
    const thisLength = Math.min(sliceLength, length - offset);
    for (let sliceOffset = 0; sliceOffset < thisLength;) {
      const rest = parameters[parameter].size - parameterOffset;
      const pieceLength = Math.min(rest, thisLength - sliceOffset);
      pieces.push({ parameter, parameterOffset, sliceOffset, length: pieceLength });
      sliceOffset += pieceLength;
      parameterOffset += pieceLength;
      if (parameterOffset === parameters[parameter].size) [parameter, parameterOffset] = [parameter + 1, 0];
    }
    slices.push({ index: slices.length, shard: slices.length % shards, offset, length: thisLength, pieces });
  }
  return { parameters, shards, length, slices };
}

/** The values of one slice, read from the parameters' own arrays. */
export function gatherSlice(
  plan: SlicePlan,
  index: number,
  arrayOf: (name: string) => Float32Array,
): Float32Array<ArrayBuffer> {
  const slice = sliceOf(plan, index);
  const values = new Float32Array(slice.length);
  for (const piece of slice.pieces) {
    const array = sized(plan, piece.parameter, arrayOf);
    values.set(array.subarray(piece.parameterOffset, piece.parameterOffset + piece.length), piece.sliceOffset);
  }
  return values;
}

/** Writes a reduced slice back into the parameters' own arrays. */
export function scatterSlice(
  plan: SlicePlan,
  index: number,
  options: { values: Float32Array; arrayOf: (name: string) => Float32Array },
): void {
  const slice = sliceOf(plan, index);
  const { values, arrayOf } = options;
  if (values.length !== slice.length) {
    throw new RangeError(`slice ${index} needs ${slice.length} values, got ${values.length}`);
  }
  for (const piece of slice.pieces) {
    const part = values.subarray(piece.sliceOffset, piece.sliceOffset + piece.length);
    sized(plan, piece.parameter, arrayOf).set(part, piece.parameterOffset);
  }
}

/** Tells which slices are ready as parameters are finished, and which parameters as slices come back. */
export class SliceProgress {
  readonly #missing: number[];
  readonly #slicesOf: number[][];
  readonly #indexOf = new Map<string, number>();
  readonly #done = new Set<number>();

  constructor(private readonly plan: SlicePlan) {
    this.#missing = plan.slices.map((slice) => slice.pieces.length);
    this.#slicesOf = plan.parameters.map(() => []);
    plan.parameters.forEach(({ name }, index) => this.#indexOf.set(name, index));
    for (const slice of plan.slices) {
      for (const piece of slice.pieces) this.#slicesOf[piece.parameter].push(slice.index);
    }
  }

  /** Whether every parameter is finished. */
  get complete(): boolean {
    return this.#done.size === this.plan.parameters.length;
  }

  /**
   * Marks a parameter's gradient as finished; the slices that became ready by it, in order.
   *
   * @throws {RangeError} for an unknown name or one marked before.
   */
  finish(name: string): number[] {
    const parameter = this.#indexOf.get(name);
    if (parameter === undefined) throw new RangeError(`parameter "${name}" is not in the slice plan`);
    if (this.#done.has(parameter)) throw new RangeError(`parameter "${name}" was finished before`);
    this.#done.add(parameter);
    return this.#slicesOf[parameter].filter((slice) => --this.#missing[slice] === 0);
  }
}

/** Slices that a shard owns, in order. */
export function slicesOfShard(plan: SlicePlan, shard: number): number[] {
  return plan.slices.filter((slice) => slice.shard === shard).map((slice) => slice.index);
}

function sliceOf(plan: SlicePlan, index: number): Slice {
  const slice = plan.slices[index];
  if (slice === undefined) throw new RangeError(`slice ${index} is outside [0, ${plan.slices.length})`);
  return slice;
}

function sized(plan: SlicePlan, parameter: number, arrayOf: (name: string) => Float32Array): Float32Array {
  const { name, size } = plan.parameters[parameter];
  const array = arrayOf(name);
  if (array.length !== size) throw new RangeError(`parameter "${name}" needs ${size} elements, got ${array.length}`);
  return array;
}
