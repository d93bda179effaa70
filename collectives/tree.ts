/**
 * The fixed binary tree in which every sum over replicas is added up. Floating-point addition depends on its order, so
 * the order is a function of the number of slots alone: node [lo, hi) = node [lo, mid) + node [mid, hi) with
 * mid = lo + the largest power of two below hi − lo. Who holds which slot, and what arrives first, changes no bit.
 */

/** A contiguous range of slots, `[low, high)`. */
export interface SlotRange {
  readonly low: number;
  readonly high: number;
}

/** Where node `[low, high)` splits. Needs `high − low ≥ 2`. */
export function treeSplit(low: number, high: number): number {
  let half = 1;
  while (half * 2 < high - low) half *= 2;
  return low + half;
}

/**
 * The sum of `vectors`, one per slot, in tree order; f32 additions. The inputs are left as they are.
 *
 * @throws {RangeError} when there is no vector or lengths differ.
 */
export function treeSum(vectors: readonly Float32Array[]): Float32Array<ArrayBuffer> {
  if (vectors.length === 0) throw new RangeError("treeSum needs at least one vector, got none");
  const length = vectors[0].length;
  vectors.forEach((vector, slot) => {
    if (vector.length !== length) {
      throw new RangeError(
        `treeSum needs vectors of one length: slot 0 has ${length}, slot ${slot} has ${vector.length}`,
      );
    }
  });
  return sumNode(vectors, 0, vectors.length);
}

function sumNode(vectors: readonly Float32Array[], low: number, high: number): Float32Array<ArrayBuffer> {
  if (high - low === 1) return new Float32Array(vectors[low]);
  const middle = treeSplit(low, high);
  const left = sumNode(vectors, low, middle);
  // A right leaf needs no copy.
  const right = high - middle === 1 ? vectors[middle] : sumNode(vectors, middle, high);
  return addInto(left, right);
}

/** Adds `right` to `left` in place and returns `left`. */
export function addInto(left: Float32Array<ArrayBuffer>, right: Float32Array): Float32Array<ArrayBuffer> {
  for (let index = 0; index < left.length; index++) left[index] += right[index];
  return left;
}

/**
 * The largest complete nodes of the tree over `slots` slots that make up `[low, high)`, in order. A trainer that carries
 * these slots sends one partial sum per node.
 *
 * @throws {RangeError} when the range is empty or outside the slots.
 */
export function treeCover(slots: number, low: number, high: number): SlotRange[] {
  assertRange(slots, { low, high });
  const cover: SlotRange[] = [];
  const visit = (nodeLow: number, nodeHigh: number): void => {
    if (nodeHigh <= low || nodeLow >= high) return;
    if (low <= nodeLow && nodeHigh <= high) {
      cover.push({ low: nodeLow, high: nodeHigh });
      return;
    }
    const middle = treeSplit(nodeLow, nodeHigh);
    visit(nodeLow, middle);
    visit(middle, nodeHigh);
  };
  visit(0, slots);
  return cover;
}

/** The partial sums that the holder of slots `[low, low + vectors.length)` contributes, one per node of its cover. */
export function treePartials(
  slots: number,
  low: number,
  vectors: readonly Float32Array[],
): { range: SlotRange; sum: Float32Array<ArrayBuffer> }[] {
  return treeCover(slots, low, low + vectors.length).map((range) => ({
    range,
    // Any complete node has the tree's own shape inside, so its vectors alone give its sum.
    sum: treeSum(vectors.slice(range.low - low, range.high - low)),
  }));
}

/**
 * Takes partial sums of complete nodes, in any order, and adds them along the tree: {@linkcode TreeAccumulator.add}
 * returns the root once every slot is covered. A node is added as soon as both its halves are there, so at most one
 * vector per disjoint node is held.
 */
export class TreeAccumulator {
  readonly #slots: number;
  readonly #length: number;
  /** Finished nodes that wait for their sibling, by `low`. */
  readonly #nodes = new Map<number, { high: number; sum: Float32Array<ArrayBuffer> }>();
  #covered = 0;

  constructor(slots: number, length: number) {
    if (!Number.isInteger(slots) || slots < 1) throw new RangeError(`a tree needs at least 1 slot, got ${slots}`);
    if (!Number.isInteger(length) || length < 0) {
      throw new RangeError(`a tree needs a vector length ≥ 0, got ${length}`);
    }
    this.#slots = slots;
    this.#length = length;
  }

  /** Number of slots covered so far. */
  get covered(): number {
    return this.#covered;
  }

  /** The root's sum once every slot is covered; undefined before. */
  get result(): Float32Array<ArrayBuffer> | undefined {
    return this.#covered === this.#slots ? this.#nodes.get(0)?.sum : undefined;
  }

  /**
   * Adds the sum of slots `range`, which becomes this accumulator's own and may be changed. Returns the root's sum when
   * it completes the tree.
   *
   * @throws {RangeError} when the range is no complete node, overlaps an earlier one, or the length is wrong; nothing is
   * changed then.
   */
  add(range: SlotRange, sum: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> | undefined {
    assertRange(this.#slots, range);
    if (sum.length !== this.#length) {
      throw new RangeError(`slots ${shown(range)} need ${this.#length} values, got ${sum.length}`);
    }
    const path = this.#pathTo(range);
    for (const [low, node] of this.#nodes) {
      if (low < range.high && range.low < node.high) {
        throw new RangeError(`slots ${shown(range)} were given already, in ${shown({ low, high: node.high })}`);
      }
    }
    this.#covered += range.high - range.low;
    let node = { low: range.low, high: range.high, sum };
    for (const parent of path.reverse()) {
      const merged = this.#merge(parent, node);
      if (merged === undefined) {
        this.#nodes.set(node.low, { high: node.high, sum: node.sum });
        return undefined;
      }
      node = merged;
    }
    this.#nodes.set(node.low, { high: node.high, sum: node.sum });
    return node.sum;
  }

  /** `node` joined with its sibling under `parent`, when that is there. */
  #merge(
    parent: SlotRange,
    node: SlotRange & { sum: Float32Array<ArrayBuffer> },
  ): SlotRange & { sum: Float32Array<ArrayBuffer> } | undefined {
    const middle = treeSplit(parent.low, parent.high);
    const isLeft = node.low === parent.low;
    const siblingLow = isLeft ? middle : parent.low;
    const sibling = this.#nodes.get(siblingLow);
    if (sibling === undefined || sibling.high !== (isLeft ? parent.high : middle)) return undefined;
    this.#nodes.delete(siblingLow);
    const sum = isLeft ? addInto(node.sum, sibling.sum) : addInto(sibling.sum, node.sum);
    return { low: parent.low, high: parent.high, sum };
  }

  /** The nodes above `range`, root first. */
  #pathTo(range: SlotRange): SlotRange[] {
    const path: SlotRange[] = [];
    let [low, high] = [0, this.#slots];
    while (low !== range.low || high !== range.high) {
      if (high - low === 1) throw new RangeError(`slots ${shown(range)} are no complete node of ${this.#slots} slots`);
      path.push({ low, high });
      const middle = treeSplit(low, high);
      if (range.high <= middle) high = middle;
      else if (range.low >= middle) low = middle;
      else throw new RangeError(`slots ${shown(range)} are no complete node of ${this.#slots} slots`);
    }
    return path;
  }
}

function assertRange(slots: number, { low, high }: SlotRange): void {
  if (!Number.isInteger(low) || !Number.isInteger(high) || low < 0 || high > slots || low >= high) {
    throw new RangeError(`slots ${shown({ low, high })} must be a range inside [0, ${slots})`);
  }
}

function shown({ low, high }: SlotRange): string {
  return `[${low}, ${high})`;
}
