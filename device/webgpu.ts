/**
 * The one implementation of {@linkcode Device}, over the standard WebGPU API that both providers have. Commands gather
 * in one encoder (dispatches in one compute pass) and are submitted in batches; buffers come from a pool, pipelines are
 * cached by WGSL text and bind groups by what they bind. What goes wrong on the GPU surfaces as a thrown error at the
 * next call. Beside `providers.ts` this is the only file that names a WebGPU type; it knows no tensor.
 */
import type { Access, Kernel } from "../kernels/kernel.ts";
import { BindingCache } from "./binding_cache.ts";
import { BufferPool, type Slot } from "./buffer_pool.ts";
import { type ChoiceRecord, KernelChoices } from "./choices.ts";
import type { AdapterDescription, Device, DeviceBuffer, HostArray, MemoryUse } from "./device.ts";
import { checkBindings, checkGrid, enabling, errorOf, messageOf, paddedToWords, variantFor } from "./checks.ts";
import { DeviceError, DeviceLostError, KernelError } from "./errors.ts";

/** Commands encoded before they are submitted unasked: enough to make a submit cheap, few enough to start the GPU early. */
const COMMANDS_PER_BATCH = 64;
/** Bind groups kept; a training step of a large network has some thousand. */
const BIND_GROUPS_MAX = 16_384;

interface Pipeline {
  readonly gpu: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly signature: string;
  readonly workgroups: Kernel["workgroups"];
}

interface Batch {
  readonly encoder: GPUCommandEncoder;
  pass: GPUComputePassEncoder | undefined;
  commands: number;
  readonly labels: Set<string>;
}

/** A WebGPU device behind the {@linkcode Device} interface; made by `openDevice`. */
export class WebGpuDevice implements Device {
  readonly adapter: AdapterDescription;
  readonly choices: KernelChoices;
  readonly #gpu: GPUDevice;
  readonly #pool: BufferPool<GPUBuffer>;
  readonly #live = new WeakMap<DeviceBuffer, Slot<GPUBuffer>>();
  readonly #layouts = new Map<string, GPUBindGroupLayout>();
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #pipelineOf = new WeakMap<Kernel, Pipeline>();
  readonly #bindGroups = new BindingCache<GPUBindGroup>(BIND_GROUPS_MAX);
  readonly #staging: GPUBuffer[] = [];
  readonly #condemned: GPUBuffer[] = [];
  /** Verdicts still to come of error scopes and compilers; a read waits for them. */
  readonly #verdicts = new Set<Promise<void>>();
  #batch: Batch | undefined;
  #batchNumber = 0;
  #nextId = 0;
  #failure: { error: Error; order: number } | undefined;
  #judged = 0;
  #destroyed = false;

  constructor(gpu: GPUDevice, adapter: AdapterDescription, choices?: ChoiceRecord) {
    this.#gpu = gpu;
    this.adapter = adapter;
    this.choices = new KernelChoices({ ...adapter, ...adapter.limits }, choices);
    this.#pool = new BufferPool<GPUBuffer>({
      create: (byteLength) => this.#createBuffer(byteLength),
      destroy: (slot) => {
        this.#bindGroups.forget(slot);
        if (slot.lastBatch === this.#batchNumber) this.#condemned.push(slot.memory);
        else slot.memory.destroy();
      },
      classBytesMax: Math.min(adapter.limits.bindingBytesMax, adapter.limits.bufferBytesMax),
    });
    gpu.addEventListener("uncapturederror", (event) => {
      event.preventDefault();
      this.#fail(new DeviceError(`The device "${adapter.name}" refused a command: ${errorOf(event)}`));
    });
    gpu.lost.then(({ reason, message }) => {
      if (this.#destroyed) return;
      this.#fail(
        new DeviceLostError(`The device "${adapter.name}" was lost (${reason || "unknown reason"}): ${message}`),
      );
    });
  }

  get memory(): MemoryUse {
    return this.#pool.memory;
  }

  allocate(byteLength: number): DeviceBuffer {
    this.#check();
    const rounded = Math.max(4, Math.ceil(byteLength / 4) * 4);
    const max = this.adapter.limits.bufferBytesMax;
    if (!(byteLength >= 0 && rounded <= max)) {
      throw new RangeError(
        `Cannot allocate a buffer of ${byteLength} bytes: "${this.adapter.name}" allows 0 to ${max} bytes; ` +
          "use a smaller batch",
      );
    }
    const buffer: DeviceBuffer = { id: this.#nextId++, byteLength: rounded };
    this.#live.set(buffer, this.#pool.take(rounded));
    return buffer;
  }

  upload(data: HostArray): DeviceBuffer {
    const buffer = this.allocate(data.byteLength);
    this.write(buffer, data);
    return buffer;
  }

  write(buffer: DeviceBuffer, data: HostArray): void {
    this.#check();
    const slot = this.#slotOf(buffer, "write to");
    if (data.byteLength > buffer.byteLength) {
      throw new RangeError(`Cannot write ${data.byteLength} bytes to a buffer of ${buffer.byteLength} bytes`);
    }
    // The queue writes at once, overtaking whatever is encoded and not yet submitted.
    if (slot.lastBatch === this.#batchNumber) this.flush();
    this.#gpu.queue.writeBuffer(slot.memory, 0, paddedToWords(data));
  }

  clear(buffer: DeviceBuffer): void {
    const slot = this.#slotOf(buffer, "clear");
    this.#outsidePass("clear", [slot]).clearBuffer(slot.memory, 0, buffer.byteLength);
    this.#count();
  }

  copy(
    source: DeviceBuffer,
    target: DeviceBuffer,
    range: { sourceOffset?: number; targetOffset?: number; byteLength?: number } = {},
  ): void {
    const from = this.#slotOf(source, "copy from");
    const to = this.#slotOf(target, "copy to");
    const { sourceOffset = 0, targetOffset = 0 } = range;
    const byteLength = range.byteLength ?? Math.min(source.byteLength - sourceOffset, target.byteLength - targetOffset);
    const inside = sourceOffset >= 0 && targetOffset >= 0 && byteLength >= 0 &&
      sourceOffset + byteLength <= source.byteLength && targetOffset + byteLength <= target.byteLength;
    const aligned = (sourceOffset | targetOffset | byteLength) % 4 === 0;
    if (!inside || !aligned) {
      throw new RangeError(
        `Cannot copy ${byteLength} bytes from offset ${sourceOffset} of ${source.byteLength} to offset ` +
          `${targetOffset} of ${target.byteLength}: the range must lie inside both buffers and be a multiple of 4`,
      );
    }
    if (from === to) throw new TypeError("Cannot copy a buffer to itself: source and target must be two buffers");
    this.#outsidePass("copy", [from, to])
      .copyBufferToBuffer(from.memory, sourceOffset, to.memory, targetOffset, byteLength);
    this.#count();
  }

  run(kernel: Kernel, buffers: readonly DeviceBuffer[]): void {
    this.#check();
    const pipeline = this.#pipeline(kernel);
    const slots = buffers.map((buffer) => this.#slotOf(buffer, `run "${kernel.label}" on`));
    const bindGroup = this.#bindGroup(kernel, { pipeline, buffers, slots });
    const batch = this.#open(slots);
    batch.labels.add(kernel.label);
    batch.pass ??= batch.encoder.beginComputePass();
    batch.pass.setPipeline(pipeline.gpu);
    batch.pass.setBindGroup(0, bindGroup);
    batch.pass.dispatchWorkgroups(...pipeline.workgroups);
    this.#count();
  }

  async read(
    buffers: readonly { buffer: DeviceBuffer; byteLength?: number }[],
  ): Promise<Uint8Array<ArrayBuffer>[]> {
    this.#check();
    const ranges = buffers.map(({ buffer, byteLength = buffer.byteLength }) => {
      if (!(byteLength >= 0 && byteLength <= buffer.byteLength)) {
        throw new RangeError(`Cannot read ${byteLength} bytes of a buffer of ${buffer.byteLength} bytes`);
      }
      return { slot: this.#slotOf(buffer, "read"), byteLength, words: Math.ceil(byteLength / 4) * 4 };
    });
    const total = ranges.reduce((sum, { words }) => sum + words, 0);
    const staging = this.#takeStaging(total);
    const encoder = this.#outsidePass("read", ranges.map(({ slot }) => slot));
    let offset = 0;
    for (const { slot, words } of ranges) {
      encoder.copyBufferToBuffer(slot.memory, 0, staging, offset, words);
      offset += words;
    }
    this.flush();
    try {
      await staging.mapAsync(GPUMapMode.READ, 0, total);
    } catch (cause) {
      await this.#settle();
      throw this.#failure?.error ??
        new DeviceError(`Cannot read from "${this.adapter.name}": ${messageOf(cause)}`, { cause });
    }
    await this.#settle();
    // Deno copies a mapped range whole, at 0.16 GB/s: map no more than was asked for, and copy it once.
    const mapped = new Uint8Array(staging.getMappedRange(0, total));
    offset = 0;
    const results = ranges.map(({ byteLength, words }) => {
      const result = mapped.slice(offset, offset + byteLength);
      offset += words;
      return result;
    });
    staging.unmap();
    this.#staging.push(staging);
    this.#check();
    return results;
  }

  flush(): void {
    this.#check();
    const batch = this.#batch;
    if (!batch) return;
    this.#batch = undefined;
    this.#batchNumber++;
    this.#gpu.pushErrorScope("validation");
    batch.pass?.end();
    this.#gpu.queue.submit([batch.encoder.finish()]);
    this.#judge((reason) => new DeviceError(`Cannot run the commands ${[...batch.labels].join(", ")}: ${reason}`));
    for (const memory of this.#condemned.splice(0)) memory.destroy();
  }

  free(buffer: DeviceBuffer): void {
    const slot = this.#slotOf(buffer, "free");
    this.#live.delete(buffer);
    this.#pool.giveBack(slot);
  }

  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.#batch?.pass?.end();
    this.#batch = undefined;
    this.#gpu.destroy();
  }

  #pipeline(wanted: Kernel): Pipeline {
    const known = this.#pipelineOf.get(wanted);
    if (known) return known;
    const kernel = variantFor(wanted, this.adapter);
    checkGrid(kernel);
    const signature = kernel.bindings.join();
    const key = `${signature}\n${kernel.wgsl}`;
    const compiled = this.#pipelines.get(key) ?? this.#compile(kernel, signature);
    this.#pipelines.set(key, compiled);
    // Kernels of one text share the pipeline, and each keeps its own grid.
    const pipeline = { ...compiled, workgroups: kernel.workgroups };
    this.#pipelineOf.set(wanted, pipeline);
    return pipeline;
  }

  #compile(kernel: Kernel, signature: string): Pipeline {
    const { label, wgsl, bindings, workgroups } = kernel;
    const { bindingsMax } = this.adapter.limits;
    if (bindings.length > bindingsMax) {
      throw new RangeError(`Cannot run "${label}": it binds ${bindings.length} buffers, the adapter ${bindingsMax}`);
    }
    this.#gpu.pushErrorScope("validation");
    const layout = this.#layout(signature, bindings);
    const module = this.#gpu.createShaderModule({ label, code: enabling(kernel, this.adapter) });
    const gpu = this.#gpu.createComputePipeline({
      label,
      layout: this.#gpu.createPipelineLayout({ bindGroupLayouts: [layout] }),
      compute: { module, entryPoint: "main" },
    });
    const compiled = module.getCompilationInfo();
    this.#judge(async (reason) => {
      const errors = (await compiled).messages.filter(({ type }) => type === "error");
      const lines = errors.map(({ lineNum, linePos, message }) => `line ${lineNum}:${linePos} ${message}`);
      return new KernelError(label, wgsl, lines.length > 0 ? lines.join("\n") : reason);
    });
    return { gpu, layout, signature, workgroups };
  }

  #layout(signature: string, bindings: readonly Access[]): GPUBindGroupLayout {
    const known = this.#layouts.get(signature);
    if (known) return known;
    const layout = this.#gpu.createBindGroupLayout({
      entries: bindings.map((access, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: access === "read" ? "read-only-storage" : "storage" },
      })),
    });
    this.#layouts.set(signature, layout);
    return layout;
  }

  #bindGroup(
    kernel: Kernel,
    { pipeline, buffers, slots }: {
      pipeline: Pipeline;
      buffers: readonly DeviceBuffer[];
      slots: readonly Slot<GPUBuffer>[];
    },
  ): GPUBindGroup {
    let key = pipeline.signature;
    for (let index = 0; index < slots.length; index++) key += `|${slots[index].id}:${buffers[index].byteLength}`;
    const known = this.#bindGroups.get(key);
    if (known) return known;
    checkBindings(kernel, { buffers, bindingBytesMax: this.adapter.limits.bindingBytesMax });
    this.#gpu.pushErrorScope("validation");
    const value = this.#gpu.createBindGroup({
      layout: pipeline.layout,
      entries: slots.map(({ memory }, binding) => ({
        binding,
        resource: { buffer: memory, size: buffers[binding].byteLength },
      })),
    });
    this.#judge((reason) => new DeviceError(`Cannot bind the buffers of "${kernel.label}": ${reason}`));
    this.#bindGroups.set(key, { value, slots });
    return value;
  }

  #createBuffer(size: number): GPUBuffer {
    this.#gpu.pushErrorScope("out-of-memory");
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const memory = this.#gpu.createBuffer({ size, usage });
    const { liveBytes, reservedBytes } = this.#pool.memory;
    this.#judge((reason) =>
      new DeviceError(
        `Cannot allocate ${size} bytes on "${this.adapter.name}" (${liveBytes} in use, ${reservedBytes} held): ` +
          `${reason}; use a smaller batch or activation checkpointing`,
      )
    );
    return memory;
  }

  #takeStaging(byteLength: number): GPUBuffer {
    const fits = this.#staging.findIndex(({ size }) => size >= byteLength);
    if (fits >= 0) return this.#staging.splice(fits, 1)[0];
    // One that is too small makes room, so that the staging buffers do not pile up.
    this.#staging.pop()?.destroy();
    const size = Math.max(4096, 2 ** Math.ceil(Math.log2(byteLength)));
    return this.#gpu.createBuffer({
      size: Math.min(size, Math.max(byteLength, this.adapter.limits.bufferBytesMax)),
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
  }

  /** The pending encoder with the pass closed, for commands that are not dispatches. */
  #outsidePass(label: string, slots: readonly Slot<GPUBuffer>[]): GPUCommandEncoder {
    this.#check();
    const batch = this.#open(slots);
    batch.labels.add(label);
    batch.pass?.end();
    batch.pass = undefined;
    return batch.encoder;
  }

  #open(slots: readonly Slot<GPUBuffer>[]): Batch {
    this.#batch ??= {
      encoder: this.#gpu.createCommandEncoder(),
      pass: undefined,
      commands: 0,
      labels: new Set(),
    };
    for (const slot of slots) slot.lastBatch = this.#batchNumber;
    return this.#batch;
  }

  #count(): void {
    if (this.#batch && ++this.#batch.commands >= COMMANDS_PER_BATCH) this.flush();
  }

  #slotOf(buffer: DeviceBuffer, action: string): Slot<GPUBuffer> {
    const slot = this.#live.get(buffer);
    if (!slot) throw new TypeError(`Cannot ${action} buffer ${buffer.id}: it was freed, or belongs to another device`);
    return slot;
  }

  /** Closes the innermost error scope; what it caught becomes this device's failure. */
  #judge(explain: (reason: string) => Error | Promise<Error>): void {
    const order = this.#judged++;
    const verdict = this.#gpu.popErrorScope()
      .then(async (error) => {
        if (error) this.#fail(await explain(error.message), order);
      })
      .catch((cause) => this.#fail(new DeviceError(`"${this.adapter.name}" failed: ${messageOf(cause)}`, { cause })))
      .finally(() => this.#verdicts.delete(verdict));
    this.#verdicts.add(verdict);
  }

  async #settle(): Promise<void> {
    while (this.#verdicts.size > 0) await Promise.all(this.#verdicts);
  }

  /** Keeps the failure that was caused first: a kernel that does not compile also spoils the batch it is in. */
  #fail(error: Error, order = this.#judged): void {
    if (!this.#destroyed && order < (this.#failure?.order ?? Infinity)) this.#failure = { error, order };
  }

  #check(): void {
    if (this.#destroyed) throw new DeviceError(`Cannot use the device "${this.adapter.name}": it was destroyed`);
    if (this.#failure) throw this.#failure.error;
  }
}
