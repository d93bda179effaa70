/**
 * The first line that an actor's process reads from stdin: who it is and where its controller listens. Secrets come this
 * way, never as arguments or environment. It knows no role's options.
 */
import { z } from "zod";
import { type Pass, passSchema } from "../../wire/identity.ts";
import { type Tls, tlsSchema } from "../../wire/tls.ts";

/** What an actor's process needs to start. */
export interface Bootstrap {
  id: string;
  role: string;
  /** Id of the controller, the actor that is told of failures and gets heartbeats. */
  controller: string;
  controllerUrl: string;
  /** The run's secret, for hosts; for all others what lets them in until it expires. */
  token: string | Pass;
  /** Certificates; needed off loopback. */
  tls?: Tls;
  /** Address to listen on, for roles that others connect to. */
  listen: string;
  /** Port to listen on; 0 takes any. */
  listenPort: number;
  heartbeatMs: number;
  /** How long to look for a controller that was lost, milliseconds. @default not at all */
  rejoinMs?: number;
  /** Whether the process goes on when its parent ends, for as long as it has its controller. @default false */
  outlives?: boolean;
  /** Where a test sets breakpoints (`breakpoints.ts`); absent in every run but a test's. */
  breakpoints?: string;
  /** The role's own options. */
  options: unknown;
}

const schema: z.ZodType<Bootstrap> = z.strictObject({
  id: z.string().min(1).max(200),
  role: z.string().min(1).max(100),
  controller: z.string().min(1).max(200),
  controllerUrl: z.string().max(2_000),
  token: z.union([z.string().min(1).max(1_000), passSchema]),
  tls: tlsSchema.optional(),
  listen: z.string().min(1).max(255),
  listenPort: z.int().min(0).max(65_535),
  heartbeatMs: z.number().positive(),
  rejoinMs: z.number().positive().optional(),
  outlives: z.boolean().optional(),
  breakpoints: z.string().max(200).optional(),
  options: z.unknown(),
});

/** The line that starts an actor's process, with its line end. */
export function bootstrapLine(bootstrap: Bootstrap): string {
  return JSON.stringify(bootstrap) + "\n";
}

/**
 * Reads the line back.
 *
 * @throws {TypeError} when it is not a bootstrap; the text is not repeated, it may hold the token.
 */
export function parseBootstrap(line: string): Bootstrap {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw new TypeError(
      "starting an actor: its first line of stdin is no JSON; actors are started by a host or controller",
    );
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new TypeError(`starting an actor: bootstrap field ${issue.path.join(".")} is wrong: ${issue.message}`);
}
