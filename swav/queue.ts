/**
 * The queue of earlier embeddings that fills up small batches for the assignment: one ring of rows per assign crop and
 * replica. It knows neither when it is used nor how codes are made.
 */
import type { Device } from "../device/device.ts";
import { matmul } from "../kernels/matmul.ts";
import { readTensors, type Tensor, zeros } from "../tensor/tensor.ts";
import type { Prototypes } from "./model.ts";

/** A ring of embeddings, `[assignCrops, length, dim]`. Source: SwAV (arXiv 2006.09882) section 4; `main_swav.py`. */
export class EmbeddingQueue {
  readonly #rings: Tensor[];
  readonly #length: number;
  readonly #dim: number;
  /** Rows written since the start; the next one goes to `#written % #length`. */
  #written = 0;

  /** @param shape.length rows per assign crop; a multiple of the replica's batch. */
  constructor(device: Device, shape: { assignCrops: number; length: number; dim: number }) {
    this.#length = shape.length;
    this.#dim = shape.dim;
    this.#rings = Array.from({ length: shape.assignCrops }, () => zeros(device, [shape.length, shape.dim]));
  }

  /** Whether every row holds an embedding; only then is the queue used. */
  get full(): boolean {
    return this.#written >= this.#length;
  }

  /** The rings, which stay the queue's. */
  tensors(): readonly Tensor[] {
    return this.#rings;
  }

  /**
   * Scores of the queue's rows against the prototypes as they are now, one `[length, K]` per assign crop, which the caller
   * frees; none while the queue is not full.
   */
  scores(prototypes: Prototypes): Tensor[] {
    if (!this.full) return [];
    const { device } = this.#rings[0];
    const count = prototypes.count;
    const kernel = matmul({ m: this.#length, n: count, k: this.#dim });
    return this.#rings.map((ring): Tensor => {
      const result = zeros(device, [this.#length, count]);
      device.run(kernel, [ring.buffer, prototypes.weight.tensor.buffer, result.buffer]);
      return result;
    });
  }

  /**
   * Puts embeddings of the assign crops, `[assignCrops, batch, dim]`, in place of the oldest rows.
   *
   * @throws {RangeError} When they are no whole rows of every assign crop, or not all go where the oldest rows lie.
   */
  push(embeddings: Float32Array<ArrayBuffer>): void {
    const rowBytes = 4 * this.#dim;
    const batch = embeddings.length / (this.#rings.length * this.#dim);
    const first = this.#written % this.#length;
    if (!Number.isInteger(batch) || first + batch > this.#length) {
      throw new RangeError(
        `Cannot put embeddings in the queue: they must be ${this.#rings.length} × rows × ${this.#dim} numbers with at ` +
          `most ${this.#length - first} rows, they are ${embeddings.length} numbers`,
      );
    }
    const { device } = this.#rings[0];
    const source = device.upload(embeddings);
    this.#rings.forEach((ring, index) =>
      device.copy(source, ring.buffer, {
        sourceOffset: index * batch * rowBytes,
        targetOffset: first * rowBytes,
        byteLength: batch * rowBytes,
      })
    );
    device.free(source);
    this.#written += batch;
  }

  /** Contents for a checkpoint: the rings, and how many rows were written. */
  async state(): Promise<{ rings: Float32Array<ArrayBuffer>[]; written: number }> {
    return { rings: await readTensors(this.#rings), written: this.#written };
  }

  /** Takes back what {@linkcode EmbeddingQueue.state} gave. */
  load(state: { rings: readonly Float32Array<ArrayBuffer>[]; written: number }): void {
    state.rings.forEach((ring, index) => this.#rings[index].device.write(this.#rings[index].buffer, ring));
    this.#written = state.written;
  }
}
