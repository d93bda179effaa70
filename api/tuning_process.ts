/**
 * Where the tuner's work happens: the adapter that a run's first trainer will open, and a child process that times kernels
 * on it. It decides nothing.
 */
import type { TrainConfig } from "../config.ts";
import type { AdapterDescription, OpenOptions } from "../device/device.ts";
import { probeAdapters } from "../setup/adapters.ts";
import { GpuClient } from "./gpu_client.ts";
import type { Timing } from "./tuning.ts";

/** An adapter, and the variables of processes that see it. */
export interface SeenAdapter {
  readonly adapter: AdapterDescription;
  readonly environment: Readonly<Record<string, string>>;
}

/** The adapter that `openDevice` takes among those that it would see; nothing where none fits. */
export function pickAdapter(
  adapters: readonly AdapterDescription[],
  { provider: wanted = "auto", adapter: part }: OpenOptions,
): AdapterDescription | undefined {
  const fits = adapters.filter(({ name }) => part === undefined || name.toLowerCase().includes(part.toLowerCase()));
  const of = (provider: string) => fits.find((adapter) => adapter.provider === provider);
  if (wanted !== "auto") return of(wanted);
  const [deno, dawn] = [of("deno"), of("dawn")];
  if (deno?.kind === "cpu") return deno;
  return deno === undefined || dawn?.kind === "gpu" ? dawn ?? deno : deno;
}

/** The adapters of a cluster's trainers on this machine, each once and the first trainer's first. */
export async function trainerAdapters(
  { adapters: entries, gpu }: TrainConfig["cluster"],
  { adapters, gpuEnvironment }: {
    /** Those seen with `gpuEnvironment` alone. */
    adapters: readonly AdapterDescription[];
    gpuEnvironment: Readonly<Record<string, string>>;
  },
): Promise<SeenAdapter[]> {
  const found = new Map<string, SeenAdapter>();
  const wanted: TrainConfig["cluster"]["adapters"] = entries.length === 0 ? [{}] : entries;
  for (const { provider = gpu, name, environment: own = {} } of wanted) {
    const environment = { ...gpuEnvironment, ...own };
    const seen = Object.keys(own).length === 0 ? adapters : (await probeAdapters(environment)).adapters;
    const adapter = pickAdapter(seen, { provider, adapter: name });
    if (adapter === undefined) continue;
    const key = `${adapter.provider} ${adapter.name}`;
    if (!found.has(key)) found.set(key, { adapter, environment });
  }
  return [...found.values()];
}

/** The adapter of the trainer that carries replica 0. */
export async function firstAdapter(
  cluster: TrainConfig["cluster"],
  seen: { adapters: readonly AdapterDescription[]; gpuEnvironment: Readonly<Record<string, string>> },
): Promise<SeenAdapter | undefined> {
  return (await trainerAdapters({ ...cluster, adapters: cluster.adapters.slice(0, 1) }, seen))[0];
}

/** Times kernels in a child process, which an abort ends at once. */
export function timingProcess(
  { config, adapter, environment, signal }: SeenAdapter & { config: TrainConfig; signal?: AbortSignal },
): Timing {
  return async (keys, onChoice) => {
    if (signal?.aborted) throw new Error("interrupted");
    const client = GpuClient.startWith(environment);
    const stop = () => client.kill();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      await client.request({ kind: "tune", config, adapter, keys }, undefined, onChoice);
    } catch (error) {
      throw signal?.aborted ? new Error("interrupted") : error;
    } finally {
      signal?.removeEventListener("abort", stop);
      await client.close();
    }
  };
}
