/**
 * Which variant of each heavy operation a device runs: what was recorded for the shape, or the operation's stated default.
 * Every trainer of a run has the same choices, because another order of a sum gives other bits. How choices are found is
 * the tuner's business.
 */
import type { Capabilities, HeavyOperation, Program, Variant } from "../kernels/variant.ts";

/** Names of variants by {@linkcode choiceKey}. */
export type ChoiceRecord = Readonly<Record<string, string>>;

/** `"conv2d forward: 3x3/2 3→32, 16×224×224"`. */
export function choiceKey<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape): string {
  return `${operation.name}: ${operation.describe(shape)}`;
}

/** The shape with moments where the operation can give them and this one does not: what the first run of a pass had. */
export function withMoments<Shape, Role extends string>(
  operation: HeavyOperation<Shape, Role>,
  shape: Shape,
): Shape | undefined {
  if (operation.name !== "conv2d forward" || typeof shape !== "object" || shape === null) return undefined;
  return "moments" in shape && shape.moments === true ? undefined : { ...shape, moments: true };
}

/** The variant recorded for the shape, or the stated default. */
export class KernelChoices {
  readonly #capabilities: Capabilities;
  readonly #recorded = new Map<string, string>();
  /** By key: a step asks for the same ones again and again. */
  readonly #programs = new Map<string, Program<string>>();

  constructor(capabilities: Capabilities, recorded: ChoiceRecord = {}) {
    this.#capabilities = capabilities;
    for (const [key, name] of Object.entries(recorded)) this.#recorded.set(key, name);
  }

  /** The device that the choices are for. */
  get capabilities(): Capabilities {
    return this.#capabilities;
  }

  /** Records a choice. */
  set(key: string, variant: string): void {
    this.#recorded.set(key, variant);
    this.#programs.clear();
  }

  /** What was recorded. */
  toJSON(): ChoiceRecord {
    return Object.fromEntries([...this.#recorded].sort(([a], [b]) => a < b ? -1 : 1));
  }

  /**
   * The name recorded for a shape. A forward pass without moments is one that is run again (a recomputed segment) or an
   * evaluation: it takes what was recorded with moments, so that it gives the bits of the first run.
   */
  recorded<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape): string | undefined {
    if (this.#recorded.size === 0) return undefined;
    const first = withMoments(operation, shape);
    return (first === undefined ? undefined : this.#recorded.get(choiceKey(operation, first))) ??
      this.#recorded.get(choiceKey(operation, shape));
  }

  /**
   * The variant to run.
   *
   * @throws RangeError when the recorded one is unknown here or cannot run on this device.
   */
  variant<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape): Variant<Shape, Role> {
    const device = this.#capabilities;
    const name = this.recorded(operation, shape);
    if (name === undefined) return operation.usual(shape, device);
    const variant = operation.variants(shape).find((candidate) => candidate.name === name);
    const refusal = variant === undefined ? "this version has no such variant" : variant.refuses(shape, device);
    if (variant === undefined || refusal !== undefined) {
      throw new RangeError(
        `Cannot run "${choiceKey(operation, shape)}" as recorded, by variant "${name}": ${refusal}; ` +
          "start the run anew, or run it on hosts like those it was recorded on",
      );
    }
    return variant;
  }

  /** The kernels to run. */
  program<Shape, Role extends string>(operation: HeavyOperation<Shape, Role>, shape: Shape): Program<Role> {
    const key = choiceKey(operation, shape);
    const known = this.#programs.get(key);
    if (known !== undefined) return known as Program<Role>;
    const program = this.variant(operation, shape).program(shape, this.#capabilities);
    this.#programs.set(key, program);
    return program;
  }
}
