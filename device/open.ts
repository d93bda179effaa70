/**
 * Chooses an adapter and opens it: the one door to a device. Knows which provider suits which kind of adapter, nothing
 * of kernels or buffers.
 */
import type { AdapterDescription, Device, OpenOptions, Provider } from "./device.ts";
import { type AdapterRefusal, NoAdapterError } from "./errors.ts";
import { findAdapters, type FoundAdapter, openAdapter } from "./providers.ts";
import { WebGpuDevice } from "./webgpu.ts";

/**
 * Opens an adapter that fits the options. With `auto`, Deno's own provider is asked first; where it shows a GPU, Dawn
 * takes its place if it loads and shows one too (it has tensor cores and a readback a hundred times quicker), and on a
 * software adapter Deno's own stays.
 *
 * @throws NoAdapterError when no adapter fits, with each provider's answer and the remedy.
 */
export async function openDevice(options: OpenOptions = {}): Promise<Device> {
  const refusals: AdapterRefusal[] = [];
  const wanted = options.provider ?? "auto";
  let chosen = await firstFit(wanted === "auto" ? "deno" : wanted, { ...options, refusals });
  if (wanted === "auto" && chosen?.description.kind !== "cpu") {
    const dawn = await firstFit("dawn", { ...options, refusals });
    if (!chosen || dawn?.description.kind === "gpu") chosen = dawn ?? chosen;
  }
  if (!chosen) {
    const name = options.adapter === undefined ? "" : ` with "${options.adapter}" in its name`;
    throw new NoAdapterError(`was found for provider "${wanted}"${name}`, refusals);
  }
  return new WebGpuDevice(await openAdapter(chosen), chosen.description, options.choices);
}

/** Every adapter of every provider that loads; a provider that does not load is left out. */
export async function listAdapters(): Promise<AdapterDescription[]> {
  const { adapters } = await surveyAdapters();
  return adapters;
}

/** Every adapter, and for each provider without one the reason. */
export async function surveyAdapters(): Promise<{ adapters: AdapterDescription[]; refusals: AdapterRefusal[] }> {
  const refusals: AdapterRefusal[] = [];
  const adapters: AdapterDescription[] = [];
  for (const provider of ["deno", "dawn"] as const) {
    const found = await foundOrRefused(provider, refusals);
    adapters.push(...found.map(({ description }) => description));
  }
  return { adapters, refusals };
}

async function firstFit(
  provider: Provider,
  { adapter: part, refusals }: OpenOptions & { refusals: AdapterRefusal[] },
): Promise<FoundAdapter | undefined> {
  const found = await foundOrRefused(provider, refusals);
  const fit = found.find(({ description }) =>
    part === undefined || description.name.toLowerCase().includes(part.toLowerCase())
  );
  if (!fit && found.length > 0) {
    refusals.push({
      provider,
      reason: `has only ${found.map(({ description }) => `"${description.name}"`).join(", ")}`,
    });
  }
  return fit;
}

async function foundOrRefused(provider: Provider, refusals: AdapterRefusal[]): Promise<FoundAdapter[]> {
  try {
    const found = await findAdapters(provider);
    if (found.length === 0) refusals.push({ provider, reason: "shows no adapter" });
    return found;
  } catch (cause) {
    refusals.push({ provider, reason: cause instanceof Error ? cause.message : String(cause) });
    return [];
  }
}
