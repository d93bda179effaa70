/**
 * The dynamic loss scale of training in mixed precision: the loss is multiplied by it, so that gradients stored in half
 * precision do not vanish, and the update takes it out again. It falls when gradients overflow and grows while they do
 * not. Source: apex `LossScaler` with O1's defaults. It knows no device: who finds an overflow tells it.
 */

/** Options of {@linkcode LossScale}. */
export interface LossScaleOptions {
  /** A power of two, so that scaling is exact. @default 65536 */
  readonly start?: number;
  /** Steps without overflow after which the scale doubles. @default 2000 */
  readonly growthSteps?: number;
  /** Largest scale. @default 16777216 */
  readonly max?: number;
}

/** The scale and its memory. */
export class LossScale {
  readonly #growthSteps: number;
  readonly #max: number;
  #value: number;
  #cleanSteps = 0;
  #skippedSteps = 0;

  constructor({ start = 2 ** 16, growthSteps = 2000, max = 2 ** 24 }: LossScaleOptions = {}) {
    this.#value = start;
    this.#growthSteps = growthSteps;
    this.#max = max;
  }

  /** What the next step's loss is multiplied by. */
  get value(): number {
    return this.#value;
  }

  /** Steps since the last overflow or change. */
  get cleanSteps(): number {
    return this.#cleanSteps;
  }

  /** Steps whose update was left out, since the start of the run. */
  get skippedSteps(): number {
    return this.#skippedSteps;
  }

  /**
   * Takes note of a step: halves the scale after an overflow, doubles it after enough steps without.
   *
   * @throws {RangeError} When gradients overflow although the scale is 1.
   */
  after({ overflow }: { overflow: boolean }): void {
    if (overflow) {
      this.#skippedSteps += 1;
      this.#cleanSteps = 0;
      if (this.#value <= 1) {
        throw new RangeError(
          "Cannot go on in mixed precision: gradients must be finite, they overflow at a loss scale of 1; " +
            'lower schedule.learningRate, or set precision to "f32"',
        );
      }
      this.#value /= 2;
      return;
    }
    this.#cleanSteps += 1;
    if (this.#cleanSteps < this.#growthSteps) return;
    this.#cleanSteps = 0;
    this.#value = Math.max(this.#value, Math.min(this.#max, this.#value * 2));
  }

  /** For a checkpoint: scale, clean steps, skipped steps. */
  state(): Float32Array<ArrayBuffer> {
    return Float32Array.of(this.#value, this.#cleanSteps, this.#skippedSteps);
  }

  /** Takes back what {@linkcode LossScale.state} gave. */
  load([value, cleanSteps, skippedSteps]: Float32Array): void {
    this.#value = value;
    this.#cleanSteps = cleanSteps;
    this.#skippedSteps = skippedSteps;
  }
}
