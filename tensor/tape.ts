/**
 * The tape of one forward pass: it owns every tensor that ops create on it, remembers how to go backward, and frees each
 * activation as soon as the backward pass has consumed it. A tape belongs to one replica's step; several run interleaved
 * on one device. It does not know what the ops compute.
 */
import type { Device, DeviceBuffer } from "../device/device.ts";
import { accumulate, add } from "../kernels/elementwise.ts";
import type { Kernel } from "../kernels/kernel.ts";
import type { Storage } from "../kernels/variant.ts";
import type { HalfCopies } from "./halves.ts";
import { bytesOf, sizeOf, type Tensor, tensorFrom, tensorOver } from "./tensor.ts";

/** Gradients towards a step's inputs, in their order; `undefined` where none is needed. */
export type InputGradients = readonly (Tensor | undefined)[];

/** One recorded op. */
export interface Step {
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  /** Tensors that only the backward pass needs; freed after it. */
  readonly saved?: readonly Tensor[];
  /** Whether the backward pass does not read the output, which is then freed before it. @default false */
  readonly forgetsOutput?: boolean;
  /**
   * Gradients towards the inputs for the output's gradient. Returns tensors made by {@linkcode Tape.allocate}, saved ones
   * or `gradient` itself. May be async, when other replicas are involved.
   */
  backward(gradient: Tensor): InputGradients | Promise<InputGradients>;
  /** Adds the gradient towards the only input to `total` in place, where that is cheaper than making it first. */
  accumulate?(gradient: Tensor, total: Tensor): void;
}

/** A stretch of ops that is run again when the backward pass reaches it (tensor/checkpoint.ts). */
export interface SegmentStep {
  /** The only tensor made on this tape that the segment reads. */
  readonly input: Tensor;
  readonly output: Tensor;
  /** Tensors kept for the second run; freed after it has gone backward. */
  readonly saved: readonly Tensor[];
  /** How often the first run read each leaf ({@linkcode Tape.leafReads} of its tape). */
  readonly reads: ReadonlyMap<Tensor, number>;
  /** Runs the segment on the tape given, and resolves to the same numbers as `output`. */
  recompute(tape: Tape): Promise<Tensor>;
}

/** Passes that ran side by side, each on a tape of its own, and go backward side by side (tensor/lanes.ts). */
export interface LanesStep {
  readonly lanes: readonly Tape[];
  readonly outputs: readonly Tensor[];
  /** Runs the lanes' actions side by side, until all have ended. */
  together(runs: readonly (() => Promise<void>)[]): Promise<unknown>;
}

/** Options of {@linkcode Tape.backward}. */
export interface BackwardOptions {
  /** Gradient of the output; ones when absent. It stays the caller's. */
  gradient?: Tensor;
  /**
   * Called as soon as a leaf's gradient is final, while the backward pass goes on. The gradient belongs to the tape until
   * {@linkcode Tape.dispose}.
   */
  onGradient?(leaf: Tensor, gradient: Tensor): void;
  /** Tensors made on this tape that must survive the backward pass. */
  keep?: readonly Tensor[];
}

/** Records a forward pass and runs it backward. Forward-only tapes (`gradients: false`) record nothing. */
export class Tape {
  readonly device: Device;
  readonly gradients: boolean;
  /** Copies in f16 of parameters that convolutions read; each convolution makes its own without them. */
  readonly halves: HalfCopies | undefined;
  readonly #steps: (Step | SegmentStep | LanesStep)[] = [];
  readonly #lanes: Tape[] = [];
  /** Tensors this tape owns, with the number of places that still need each. */
  #references = new Map<Tensor, number>();
  #tracked = new Set<Tensor>();
  /** For each leaf, the recorded reads whose gradient has not arrived yet. */
  #pending = new Map<Tensor, number>();
  /** The tape whose segment is run again on this one. */
  #origin: Tape | undefined;
  #ones: Tensor | undefined;
  #state: "forward" | "backward" | "disposed" = "forward";

  constructor(device: Device, options: { gradients: boolean; halves?: HalfCopies }) {
    this.device = device;
    this.gradients = options.gradients;
    this.halves = options.halves;
  }

  /** A tensor owned by this tape; contents undefined. */
  allocate(shape: readonly number[], dtype: Storage = "f32"): Tensor {
    this.#checkAlive();
    const buffer = this.device.allocate(bytesOf(dtype) * sizeOf(shape));
    return this.adopt(tensorOver(this.device, buffer, { shape, dtype }));
  }

  /** Makes this tape the owner of a tensor. */
  adopt(tensor: Tensor): Tensor {
    this.#checkAlive();
    this.#references.set(tensor, 1);
    return tensor;
  }

  /** Takes a tensor from this tape, which no longer frees it. */
  disown(tensor: Tensor): Tensor {
    this.#references.delete(tensor);
    return tensor;
  }

  /** Runs `kernel` through a temporary buffer: `use` gets it, and it goes back to the pool at once. */
  scratch(floats: number, use: (buffer: DeviceBuffer) => void): void {
    const buffer = this.device.allocate(4 * floats);
    use(buffer);
    this.device.free(buffer);
  }

  /** Runs `kernel` over the tensors' buffers. */
  run(kernel: Kernel, tensors: readonly Tensor[]): void {
    this.device.run(kernel, tensors.map(({ buffer }) => buffer));
  }

  /** Whether a gradient towards `tensor` is asked for. */
  needsGradient(tensor: Tensor): boolean {
    return this.gradients && (tensor.requiresGradient || this.#tracked.has(tensor));
  }

  /** Frees a tensor of a forward-only tape early; with gradients the backward pass does that, and nothing happens here. */
  release(tensor: Tensor): void {
    if (!this.gradients) this.#drop(tensor);
  }

  /** Keeps a tensor of this tape beyond the steps that need it, until {@linkcode Tape.discard}. */
  retain(tensor: Tensor): void {
    this.#hold(tensor);
  }

  /** Frees a tensor that an op's backward pass made and does not return, or has retained. */
  discard(tensor: Tensor): void {
    this.#drop(tensor);
  }

  /**
   * Whether an op may write its input gradient over `gradient`, its output's, and return it: nothing else reads it.
   * Only an op's `backward` may ask.
   */
  mayOverwrite(gradient: Tensor): boolean {
    return this.#references.get(gradient) === 1;
  }

  /** Remembers an op that has run. Returns its output. */
  record(step: Step): Tensor {
    if (this.gradients) this.#checkForward();
    // A segment's second run reads what its first has counted.
    if (this.#origin === undefined) {
      for (const input of step.inputs) if (input.requiresGradient) this.#expect(input, 1);
    }
    if (!this.gradients) {
      for (const tensor of step.saved ?? []) this.#drop(tensor);
      return step.output;
    }
    this.#steps.push(step);
    if (step.inputs.some((input) => this.needsGradient(input))) this.#tracked.add(step.output);
    return step.output;
  }

  /** How often the ops on this tape have read each leaf. */
  get leafReads(): ReadonlyMap<Tensor, number> {
    return this.#pending;
  }

  /** Remembers a stretch of ops that ran on a forward-only tape, and becomes the owner of what it keeps. */
  recordSegment(step: SegmentStep): Tensor {
    this.#checkForward();
    for (const tensor of [...step.saved, step.output]) this.adopt(tensor);
    if (this.#origin === undefined) { for (const [leaf, count] of step.reads) this.#expect(leaf, count); }
    this.#steps.push(step);
    if (step.reads.size > 0 || this.needsGradient(step.input)) this.#tracked.add(step.output);
    return step.output;
  }

  /** Tapes that record passes of their own, and share this tape's tensors and gradients. */
  fork(count: number): Tape[] {
    this.#checkForward();
    const lanes = Array.from({ length: count }, () => this.#sharing());
    this.#lanes.push(...lanes);
    return lanes;
  }

  /** Remembers what was recorded on {@linkcode Tape.fork}ed tapes. */
  recordLanes(step: LanesStep): void {
    if (!this.gradients) return;
    this.#checkForward();
    this.#steps.push(step);
  }

  /** Whether `gradient` is the implicit gradient of ones that {@linkcode Tape.backward} starts from. */
  isOnes(gradient: Tensor): boolean {
    return gradient === this.#ones;
  }

  /**
   * Runs the tape backward from `output` and resolves to the gradients of the leaves. Activations are freed on the way.
   *
   * @throws {TypeError} When the tape records no gradients or has gone backward before.
   */
  async backward(output: Tensor, options: BackwardOptions = {}): Promise<Map<Tensor, Tensor>> {
    if (!this.gradients || this.#state !== "forward") {
      throw new TypeError(
        `Cannot go backward: the tape must record gradients and go backward once, it has gradients: ${this.gradients} and is in state '${this.#state}'`,
      );
    }
    this.#state = "backward";
    const { onGradient, keep = [] } = options;
    for (const tensor of keep) this.#hold(tensor);
    const gradients = new Map<Tensor, Tensor>();
    gradients.set(output, options.gradient ?? this.#makeOnes(output));
    await this.#unwind(gradients, onGradient);
    return gradients;
  }

  /** Frees everything the tape still owns but the tensors in `keep`, which become the caller's. */
  dispose(options: { keep?: readonly Tensor[] } = {}): void {
    for (const tensor of options.keep ?? []) this.#references.delete(tensor);
    for (const tensor of this.#references.keys()) this.device.free(tensor.buffer);
    this.#references.clear();
    this.#steps.length = 0;
    this.#state = "disposed";
    for (const lane of this.#lanes) lane.dispose();
  }

  /** Takes the steps back, the last first. */
  async #unwind(gradients: Map<Tensor, Tensor>, onGradient: BackwardOptions["onGradient"]): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      if ("lanes" in step) {
        await step.together(step.lanes.map((lane) => () => lane.#unwindWith(this.#ones, gradients, onGradient)));
        continue;
      }
      const gradient = gradients.get(step.output);
      const tracked = this.#tracked.delete(step.output);
      if ("recompute" in step) {
        this.#drop(step.output);
        const wanted = tracked && gradient !== undefined;
        if (wanted) await this.#unwindSegment(step, gradients, onGradient);
        else for (const [leaf, count] of step.reads) this.#settle(leaf, { count, gradients, onGradient });
      } else {
        if (step.forgetsOutput) this.#drop(step.output);
        if (gradient !== undefined && tracked) {
          gradients.delete(step.output);
          if (!this.#addInPlace(step, gradient, gradients)) {
            const made = step.backward(gradient);
            this.#spread(step, gradient, { made: made instanceof Promise ? await made : made, gradients });
          }
        }
        if (tracked) { for (const input of step.inputs) this.#settle(input, { count: 1, gradients, onGradient }); }
        if (!step.forgetsOutput) this.#drop(step.output);
      }
      for (const tensor of step.saved ?? []) this.#drop(tensor);
    }
  }

  /**
   * Runs a segment again and takes its steps back. They share this tape's tensors and gradients, so that sums and reports
   * come in the order in which they would come without segments.
   */
  async #unwindSegment(
    step: SegmentStep,
    gradients: Map<Tensor, Tensor>,
    onGradient: BackwardOptions["onGradient"],
  ): Promise<void> {
    const again = this.#sharing();
    again.#origin = this;
    const output = await step.recompute(again);
    const gradient = gradients.get(step.output);
    gradients.delete(step.output);
    if (gradient !== undefined) gradients.set(output, gradient);
    await again.#unwindWith(this.#ones, gradients, onGradient);
    again.#state = "disposed";
  }

  /** A tape with steps of its own over this tape's tensors. */
  #sharing(): Tape {
    const tape = new Tape(this.device, { gradients: this.gradients, halves: this.halves });
    tape.#references = this.#references;
    tape.#tracked = this.#tracked;
    tape.#pending = this.#pending;
    tape.#origin = this.#origin;
    return tape;
  }

  async #unwindWith(
    ones: Tensor | undefined,
    gradients: Map<Tensor, Tensor>,
    onGradient: BackwardOptions["onGradient"],
  ): Promise<void> {
    this.#ones = ones;
    this.#state = "backward";
    await this.#unwind(gradients, onGradient);
  }

  #checkForward(): void {
    if (this.#state === "forward") return;
    throw new TypeError(`Cannot record an op: the tape must be going forward, it is in state '${this.#state}'`);
  }

  #expect(leaf: Tensor, count: number): void {
    this.#pending.set(leaf, (this.#pending.get(leaf) ?? 0) + count);
  }

  #checkAlive(): void {
    if (this.#state === "disposed") throw new TypeError("Cannot use the tape: it must not be disposed, it is");
  }

  #makeOnes(output: Tensor): Tensor {
    this.#ones = this.adopt(tensorFrom(this.device, new Float32Array(output.size).fill(1), output.shape));
    return this.#ones;
  }

  /** Lets a step add to a gradient that no one else reads, if it can. */
  #addInPlace(step: Step, gradient: Tensor, gradients: Map<Tensor, Tensor>): boolean {
    const total = gradients.get(step.inputs[0]);
    if (step.accumulate === undefined || total === undefined || this.#references.get(total) !== 1) return false;
    step.accumulate(gradient, total);
    this.#drop(gradient);
    return true;
  }

  /** Adds a step's gradients to those of its inputs, and lets go of what the step alone needed. */
  #spread(
    step: Step,
    gradient: Tensor,
    { made, gradients }: { made: InputGradients; gradients: Map<Tensor, Tensor> },
  ): void {
    step.inputs.forEach((input, i) => {
      const part = made[i];
      if (part !== undefined && this.needsGradient(input)) this.#accumulate(input, part, gradients);
    });
    for (const part of new Set(made)) {
      if (part !== undefined && part !== gradient && !step.saved?.includes(part)) this.#drop(part);
    }
    this.#drop(gradient);
  }

  #accumulate(input: Tensor, part: Tensor, gradients: Map<Tensor, Tensor>): void {
    const known = gradients.get(input);
    if (known === undefined) {
      gradients.set(input, part);
      this.#hold(part);
    } else if (this.#references.get(known) === 1) {
      this.run(accumulate(known.size, known.dtype), [known, part]);
    } else {
      const total = this.allocate(known.shape, known.dtype);
      this.run(add(known.size, known.dtype), [known, part, total]);
      gradients.set(input, total);
      this.#drop(known);
    }
  }

  /** Counts down the reads of a leaf and reports its gradient when it is final. */
  #settle(
    leaf: Tensor,
    { count, gradients, onGradient }: {
      count: number;
      gradients: Map<Tensor, Tensor>;
      onGradient: BackwardOptions["onGradient"];
    },
  ): void {
    const pending = this.#pending.get(leaf);
    if (pending === undefined) return;
    if (pending > count) {
      this.#pending.set(leaf, pending - count);
      return;
    }
    this.#pending.delete(leaf);
    const gradient = gradients.get(leaf);
    if (gradient !== undefined) onGradient?.(leaf, gradient);
  }

  #hold(tensor: Tensor): void {
    const references = this.#references.get(tensor);
    if (references !== undefined) this.#references.set(tensor, references + 1);
  }

  #drop(tensor: Tensor): void {
    const references = this.#references.get(tensor);
    if (references === undefined) return;
    if (references > 1) {
      this.#references.set(tensor, references - 1);
    } else {
      this.#references.delete(tensor);
      this.device.free(tensor.buffer);
    }
  }
}
