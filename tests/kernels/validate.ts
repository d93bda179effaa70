/**
 * Validates kernels that this machine cannot run: Dawn's null backend executes nothing, knows every feature (f16,
 * subgroups, subgroup matrices), and tells what is wrong with a text and with the buffers it says it binds. It knows no
 * operation, and nothing of what a kernel computes.
 */
import { enabling } from "../../device/checks.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** What a kernel may use of the GPU that it is meant for. */
export interface ValidationLimits {
  /** @default 32768 */
  workgroupBytesMax?: number;
}

interface Compiler {
  /** Held, because an instance that is collected while a device of it lives takes the process down. */
  readonly instance: GPU;
  readonly device: GPUDevice;
}

let opened: Promise<Compiler> | undefined;

async function open(): Promise<Compiler> {
  const { create } = await import("webgpu");
  const instance: GPU = create(["backend=null", "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia"]);
  const adapter = await instance.requestAdapter();
  if (!adapter) throw new Error("Cannot validate kernels: Dawn's null backend shows no adapter");
  const features = [
    "shader-f16",
    "subgroups",
    "subgroup-size-control",
    "chromium-experimental-subgroup-matrix",
  ];
  const device = await adapter.requestDevice({ requiredFeatures: features as GPUFeatureName[] });
  return { instance, device };
}

/** The null backend has 16 KiB of workgroup memory and no more can be asked for; what a kernel takes is in its message. */
const WORKGROUP_STORAGE = /total use of workgroup storage \((\d+) bytes\) is larger than the maximum allowed/;

/**
 * Every message about the kernel's WGSL, its bindings and its workgroup; none when it is valid. The text is compiled as a
 * device with all features would.
 */
export async function validate(kernel: Kernel, limits: ValidationLimits = {}): Promise<string[]> {
  const { workgroupBytesMax = 32_768 } = limits;
  const { device } = await (opened ??= open());
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ label: kernel.label, code: enabling(kernel, { provider: "dawn" }) });
  const { messages } = await module.getCompilationInfo();
  const moduleError = await device.popErrorScope();
  const errors = messages.filter(({ type }) => type === "error")
    .map(({ lineNum, linePos, message }) => `line ${lineNum}:${linePos} ${message}`);
  if (errors.length > 0 || moduleError) return errors.length > 0 ? errors : [moduleError?.message ?? ""];
  device.pushErrorScope("validation");
  const layout = device.createBindGroupLayout({
    entries: kernel.bindings.map((access, binding) => ({
      binding,
      visibility: GPUShaderStage.COMPUTE,
      buffer: { type: access === "read" ? "read-only-storage" as const : "storage" as const },
    })),
  });
  device.createComputePipeline({
    layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
    compute: { module, entryPoint: "main" },
  });
  const message = (await device.popErrorScope())?.message;
  if (message === undefined) return [];
  const workgroupBytes = WORKGROUP_STORAGE.exec(message)?.[1];
  return workgroupBytes !== undefined && Number(workgroupBytes) <= workgroupBytesMax ? [] : [message];
}

/** Lets go of the compiler; the next {@linkcode validate} opens another. */
export async function closeValidator(): Promise<void> {
  const compiler = await opened;
  opened = undefined;
  compiler?.device.destroy();
}
