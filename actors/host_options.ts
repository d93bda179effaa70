/** The options that a host's process gets when it starts, parsed once. */
import { z } from "zod";
import { type Tls, tlsSchema } from "../wire/tls.ts";
import type { HostGrants } from "./permissions.ts";

/** What a host needs to start actors. */
export interface HostOptions {
  readonly controllerUrl: string;
  /** The run's secret. */
  readonly token: string;
  /** Certificates; needed off loopback. */
  readonly tls?: Tls;
  /** Address on which this host's actors listen. */
  readonly listen: string;
  /** Environment of processes that use the GPU. */
  readonly gpuEnvironment: Readonly<Record<string, string>>;
  /** One line per adapter. */
  readonly adapters: readonly string[];
  /** Digest of this host's code, to be compared with the controller's. @default none is told */
  readonly code?: string;
  readonly grants: HostGrants;
  /** How long this host and its actors look for a controller that was lost. @default not at all */
  readonly rejoinMs?: number;
  /** Whether this host's actors outlive it, for another host to take them over. @default false */
  readonly actorsOutlive?: boolean;
  /** Where a test sets breakpoints of this host's actors (`runtime/breakpoints.ts`). */
  readonly breakpoints?: string;
}

const schema: z.ZodType<HostOptions> = z.strictObject({
  controllerUrl: z.string(),
  token: z.string(),
  tls: tlsSchema.optional(),
  listen: z.string(),
  gpuEnvironment: z.record(z.string(), z.string()),
  adapters: z.array(z.string()),
  code: z.string().optional(),
  grants: z.strictObject({
    addresses: z.array(z.string()),
    dataFolder: z.string(),
    runFolder: z.string().optional(),
    packagesFolder: z.string().optional(),
    codeFolder: z.string(),
    dawn: z.boolean(),
  }),
  rejoinMs: z.number().positive().optional(),
  actorsOutlive: z.boolean().optional(),
  breakpoints: z.string().optional(),
});

/**
 * The options out of a bootstrap.
 *
 * @throws {z.ZodError} when a field is missing or wrong.
 */
export function parseHostOptions(options: unknown): HostOptions {
  return schema.parse(options);
}
