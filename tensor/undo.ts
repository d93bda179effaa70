/**
 * Copies on the device of tensors that are about to change in place, to put them back bit for bit. Who changes them and
 * why is not known here.
 */
import type { DeviceBuffer } from "../device/device.ts";
import type { Tensor } from "./tensor.ts";

/**
 * What some tensors held. Keeping and restoring only encode copies, which take effect in order with all other commands.
 *
 * @example
 * ```ts
 * import { Undo } from "./undo.ts";
 * import type { Tensor } from "./tensor.ts";
 *
 * function tryOut(weights: readonly Tensor[], change: () => void): void {
 *   const undo = new Undo();
 *   undo.keep(weights);
 *   change();
 *   undo.restore();
 *   undo.drop();
 * }
 * ```
 */
export class Undo {
  readonly #kept = new Map<Tensor, DeviceBuffer>();

  /** Copies the tensors as they are now; one that is kept already stays as it was then. */
  keep(tensors: readonly Tensor[]): void {
    for (const tensor of tensors) {
      if (this.#kept.has(tensor)) continue;
      const copy = tensor.device.allocate(tensor.buffer.byteLength);
      tensor.device.copy(tensor.buffer, copy);
      this.#kept.set(tensor, copy);
    }
  }

  /** The tensor as it was when it was kept, over the copy; itself where it was not kept. */
  before(tensor: Tensor): Tensor {
    const buffer = this.#kept.get(tensor);
    return buffer === undefined ? tensor : { ...tensor, buffer };
  }

  /** Puts all kept tensors back; they stay kept. */
  restore(): void {
    for (const [{ device, buffer }, copy] of this.#kept) device.copy(copy, buffer);
  }

  /** Frees the copies. */
  drop(): void {
    for (const [{ device }, copy] of this.#kept) device.free(copy);
    this.#kept.clear();
  }
}
