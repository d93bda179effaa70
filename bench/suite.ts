/**
 * What the suites share: arguments, the device, and the file through which a suite hands its entries to `bench/run.ts`.
 */
import { parseArgs } from "@std/cli/parse-args";
import type { Device, Provider } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import type { Entry } from "./report.ts";
import type { Timed } from "./measure.ts";

/** Arguments of a suite, given by `bench/run.ts` or by hand. */
export interface SuiteOptions {
  readonly provider: Provider | "auto";
  readonly quick: boolean;
  /** Only entries whose name holds this. */
  readonly only: string;
  /** Whether peers are timed too. */
  readonly peers: boolean;
  /** Time the first variant of every family, not only the one that a run uses. */
  readonly families: boolean;
  /** Where the part of the report goes. */
  readonly part?: string;
}

/** What a suite hands over. */
export interface ReportPart {
  readonly device?: Pick<Device["adapter"], "name" | "vendor" | "provider" | "kind" | "features">;
  readonly versions?: Readonly<Record<string, string>>;
  readonly entries: readonly Entry[];
}

/** Reads the arguments. */
export function suiteOptions(args: readonly string[]): SuiteOptions {
  const options = parseArgs([...args], {
    string: ["provider", "only", "part"],
    boolean: ["quick", "no-peers", "families"],
  });
  const provider = options.provider ?? "auto";
  if (provider !== "auto" && provider !== "deno" && provider !== "dawn") {
    throw new RangeError(`Cannot run a benchmark: --provider is auto, deno or dawn, got "${provider}"`);
  }
  const text = (value: unknown) => typeof value === "string" ? value : undefined;
  return {
    provider,
    quick: options.quick === true,
    only: text(options.only) ?? "",
    peers: options["no-peers"] !== true,
    families: options.families === true,
    part: text(options.part),
  };
}

/** Opens the device and prints which one it is. */
export async function openForSuite({ provider }: SuiteOptions): Promise<Device> {
  const device = await openDevice({ provider });
  const { name, vendor, provider: through, features } = device.adapter;
  console.log(`${name} (vendor ${vendor}) through ${through}; features: ${features.join(", ") || "none"}`);
  return device;
}

/** Writes what was measured and ends the process: Dawn's teardown may crash after the work is done. */
export async function finish({ part }: SuiteOptions, { device, versions, entries }: {
  device?: Device;
  versions?: Readonly<Record<string, string>>;
  entries: readonly Entry[];
}): Promise<never> {
  if (part !== undefined) {
    const { name, vendor, provider, kind, features } = device?.adapter ?? {};
    const described = name === undefined ? undefined : { name, vendor, provider, kind, features };
    await Deno.writeTextFile(part, JSON.stringify({ device: described, versions, entries }));
  }
  Deno.exit(0);
}

/** Entries of arms that were timed in turns. */
export function entriesOf(
  timed: readonly Timed[],
  common: Pick<Entry, "suite" | "name" | "flops" | "bytes">,
): Entry[] {
  return timed.flatMap(({ arm, note, error, times }) =>
    times ? [{ ...common, arm, unit: "ms", better: "lower" as const, ...times, error, note }] : []
  );
}
