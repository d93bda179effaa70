/**
 * Copies in f16 of parameters that are f32, made when first asked for and kept until the parameters change: mixed
 * precision multiplies the copies and updates the parameters (Micikevicius et al., arXiv 1710.03740). It knows no optimiser:
 * whoever changes parameters says so.
 */
import type { Device } from "../device/device.ts";
import { cast } from "../kernels/elementwise.ts";
import { type Tensor, tensorOver } from "./tensor.ts";

/** Copies by parameter. */
export class HalfCopies {
  readonly #device: Device;
  readonly #copies = new Map<Tensor, Tensor>();

  constructor(device: Device) {
    this.#device = device;
  }

  /** The copy of `parameter`, an f32 tensor; it is good until {@linkcode HalfCopies.drop}. */
  of(parameter: Tensor): Tensor {
    const known = this.#copies.get(parameter);
    if (known !== undefined) return known;
    const { shape, size, buffer } = parameter;
    const copy = tensorOver(this.#device, this.#device.allocate(2 * size), { shape, dtype: "f16" });
    this.#device.run(cast(size, { from: "f32", to: "f16" }), [buffer, copy.buffer]);
    this.#copies.set(parameter, copy);
    return copy;
  }

  /** Frees every copy: the parameters are about to change, or have changed. No tape that read copies may go on. */
  drop(): void {
    for (const { buffer } of this.#copies.values()) this.#device.free(buffer);
    this.#copies.clear();
  }
}
