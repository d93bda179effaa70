/**
 * Where WebGPU comes from: Deno's own `navigator.gpu` (wgpu), or Dawn through the npm package `webgpu`, which is loaded
 * only when asked for, because loading it needs the ffi permission. Finds and describes adapters and opens the raw
 * device; what runs on it is `webgpu.ts`'s.
 */
import type { AdapterDescription, Provider } from "./device.ts";
import type { KernelFeature } from "../kernels/kernel.ts";
import type { MatrixConfiguration } from "../kernels/variant.ts";

/** An adapter that was found, and its description. */
export interface FoundAdapter {
  readonly description: AdapterDescription;
  readonly adapter: GPUAdapter;
}

/** WebGPU's names of the features that kernels ask for. */
const FEATURE_NAMES: Readonly<Record<KernelFeature, string>> = {
  "f16": "shader-f16",
  "subgroups": "subgroups",
  "subgroup-size-control": "subgroup-size-control",
  "subgroup-matrix": "chromium-experimental-subgroup-matrix",
};

/** Limits that kernels lean on; each is requested at the adapter's maximum. */
const LIMITS = [
  "maxBufferSize",
  "maxStorageBufferBindingSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupSizeX",
  "maxComputeWorkgroupSizeY",
  "maxComputeWorkgroupSizeZ",
  "maxComputeWorkgroupsPerDimension",
] as const;

/** Features of GPUs that no kernel needs, asked for where present: measuring a pass by the GPU's own clock. */
const GPU_EXTRAS = ["timestamp-query"] as const;

/**
 * Dawn's switches for real GPUs, every text one `key=toggle,toggle` (an element that is a bare toggle throws). Switched on:
 * subgroup matrices, and f16 on NVIDIA, which Dawn hides there otherwise (crbug 42251215). Switched off: rounding
 * timestamps to 65,536 ns, which most kernels are done in.
 */
const DAWN_GPU_SWITCHES = [
  "enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia",
  "disable-dawn-features=timestamp_quantization",
] as const;

/** Dawn's instances; one that is collected while a device of it lives takes the process down. */
const dawnInstances = new Map<string, GPU>();

/**
 * Every adapter the provider shows, each once.
 *
 * @throws Error with the reason when the provider cannot be loaded here.
 */
export async function findAdapters(provider: Provider): Promise<FoundAdapter[]> {
  if (provider === "deno") return await adaptersOf(provider, denoGpu());
  const plain = await adaptersOf(provider, await dawnGpu());
  if (plain.every(({ description }) => description.kind === "cpu")) return plain;
  return await adaptersOf(provider, await dawnGpu(DAWN_GPU_SWITCHES));
}

/** Opens the raw device with the adapter's own limits and every feature that kernels may require. */
export async function openAdapter({ adapter, description }: FoundAdapter): Promise<GPUDevice> {
  if (description.provider === "dawn" && description.kind === "cpu") pollSlowly();
  const extras = description.kind === "gpu" ? GPU_EXTRAS.filter((name) => adapter.features.has(name)) : [];
  // Deno returns the device itself where the standard has a promise (denoland/deno#32180).
  return await Promise.resolve(adapter.requestDevice({
    requiredFeatures: [
      ...description.features.map((feature) => FEATURE_NAMES[feature] as GPUFeatureName),
      ...extras,
    ],
    requiredLimits: Object.fromEntries(LIMITS.map((name) => [name, adapter.limits[name]])),
  }));
}

/**
 * Dawn's addon asks the driver whether work is done on every `setImmediate`, without a pause. On a software adapter that
 * loop holds the lock which the thread doing the work needs: work takes ten times as long and sometimes minutes
 * (measured on lavapipe 25.0). Asking once a millisecond ends it; the addon looks the global up anew each time.
 */
function pollSlowly(): void {
  const setImmediate = (action: (...values: unknown[]) => void, ...values: unknown[]) =>
    setTimeout(action, 1, ...values);
  Object.assign(globalThis, { setImmediate });
}

function denoGpu(): GPU {
  if (!("gpu" in navigator)) throw new Error("this Deno has no navigator.gpu; Deno 2.9 or later has it");
  return navigator.gpu;
}

async function dawnGpu(switches: readonly string[] = []): Promise<GPU> {
  const known = dawnInstances.get(switches.join(" "));
  if (known) return known;
  // Asked first, because loading without the permission would stop a terminal with a prompt.
  const { state } = await Deno.permissions.query({ name: "ffi" });
  if (state !== "granted") throw new Error("npm:webgpu needs the permission --allow-ffi");
  const { create } = await import("webgpu").catch((cause: unknown) => {
    throw new Error(
      `npm:webgpu cannot be loaded on ${Deno.build.target} (it needs GLIBC 2.38 on Linux): ${firstLine(cause)}`,
      { cause },
    );
  });
  const gpu: GPU = create([...switches]);
  dawnInstances.set(switches.join(" "), gpu);
  return gpu;
}

/** WebGPU answers one adapter per request; asking in three ways shows a machine's fast, frugal and software ones. */
async function adaptersOf(provider: Provider, gpu: GPU): Promise<FoundAdapter[]> {
  const requests: GPURequestAdapterOptions[] = [
    { powerPreference: "high-performance" },
    { powerPreference: "low-power" },
    { forceFallbackAdapter: true },
  ];
  const found = new Map<string, FoundAdapter>();
  for (const request of requests) {
    const adapter = await gpu.requestAdapter(request);
    if (!adapter) continue;
    const description = describe(provider, adapter);
    if (!found.has(description.name)) found.set(description.name, { description, adapter });
  }
  return [...found.values()];
}

function describe(provider: Provider, adapter: GPUAdapter): AdapterDescription {
  const { info, limits, features } = adapter;
  // Dawn's description is the driver's ("llvmpipe: Mesa 25.0.7 (LLVM 15.0.6)"), its device the card's.
  const name = info.description || info.device || info.architecture || "unnamed adapter";
  const software = info.isFallbackAdapter || /llvmpipe|lavapipe|swiftshader|software|basic render/i.test(name);
  const names: readonly KernelFeature[] = software
    ? ["f16", "subgroups"]
    : ["f16", "subgroups", "subgroup-size-control", "subgroup-matrix"];
  const present = new Set<string>(features);
  return {
    provider,
    name: provider === "dawn" && info.device && !name.includes(info.device) ? `${info.device} (${name})` : name,
    vendor: info.vendor,
    architecture: info.architecture,
    kind: software ? "cpu" : "gpu",
    features: names.filter((feature) =>
      feature === "subgroups" ? hasSubgroups(provider, adapter) : present.has(FEATURE_NAMES[feature])
    ),
    subgroupSizes: subgroupSizes(provider, adapter),
    matrices: present.has(FEATURE_NAMES["subgroup-matrix"]) ? matrixConfigurations(info) : [],
    limits: {
      bufferBytesMax: limits.maxBufferSize,
      bindingBytesMax: limits.maxStorageBufferBindingSize,
      bindingsMax: limits.maxStorageBuffersPerShaderStage,
      workgroupBytesMax: limits.maxComputeWorkgroupStorageSize,
      workgroupInvocationsMax: limits.maxComputeInvocationsPerWorkgroup,
    },
  };
}

/**
 * Whether 8 lanes fit a subgroup. Deno grants subgroups on Vulkan and Metal but does not list them; an adapter without
 * them reports the standard's widest range, 4 to 128.
 */
function hasSubgroups(provider: Provider, adapter: GPUAdapter): boolean {
  return subgroupSizes(provider, adapter)[0] >= 8;
}

function subgroupSizes(provider: Provider, { features, info }: GPUAdapter): readonly [number, number] {
  const present = new Set<string>(features);
  const size = (name: "subgroupMinSize" | "subgroupMaxSize") =>
    name in info && typeof info[name] === "number" ? info[name] : 0;
  if (provider === "dawn" && !present.has("subgroups")) return [0, 0];
  return [size("subgroupMinSize"), size("subgroupMaxSize")];
}

/**
 * What the matrix units multiply, from Dawn's `subgroupMatrixConfigs`: interfaces whose fields must be read one by one.
 * Integer ones are left out.
 */
export function matrixConfigurations(info: object): readonly MatrixConfiguration[] {
  const configurations = "subgroupMatrixConfigs" in info ? info.subgroupMatrixConfigs : undefined;
  if (typeof configurations !== "object" || configurations === null || !(Symbol.iterator in configurations)) return [];
  const found: MatrixConfiguration[] = [];
  for (const configuration of configurations as Iterable<Readonly<Record<string, unknown>>>) {
    const { componentType: component, resultComponentType: result, M, N, K } = configuration;
    if ((component === "f16" || component === "f32") && (result === "f16" || result === "f32")) {
      found.push({ m: Number(M), n: Number(N), k: Number(K), component, result });
    }
  }
  return found;
}

function firstLine(cause: unknown): string {
  return (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0];
}
