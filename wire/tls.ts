/** Where links must be encrypted: everywhere but on loopback. It reads no file; certificates come as text. */
import { z } from "zod";
import { WireError } from "./error.ts";

/** Certificates as PEM texts. */
export interface Tls {
  /** Certificate chain of this machine; listeners need it. */
  readonly certificate?: string;
  /** Private key of the certificate. */
  readonly key?: string;
  /** The authority whose certificates are trusted, beside those that the system trusts. */
  readonly authority?: string;
}

const pem = z.string().min(1).max(262_144);

/** Schema of {@linkcode Tls}. */
export const tlsSchema: z.ZodType<Tls> = z.strictObject({
  certificate: pem.optional(),
  key: pem.optional(),
  authority: pem.optional(),
});

/** Whether `hostname` can be reached from this machine alone. */
export function isLoopback(hostname: string): boolean {
  const bare = hostname.replace(/^\[|\]$/g, "").toLowerCase();
  return bare === "localhost" || bare === "::1" || /^127(\.\d{1,3}){3}$/.test(bare);
}

/**
 * The certificate and key to listen with; undefined on loopback without any.
 *
 * @throws {WireError} when `hostname` is not loopback and either is missing.
 */
export function listeningTls(hostname: string, tls: Tls | undefined): { cert: string; key: string } | undefined {
  if (tls?.certificate !== undefined && tls.key !== undefined) return { cert: tls.certificate, key: tls.key };
  if (isLoopback(hostname) && tls?.certificate === undefined && tls?.key === undefined) return undefined;
  throw new WireError(
    `listening on ${hostname}: any address but loopback needs TLS, and certificate or key is missing; set ` +
      "cluster.tls.certificate and cluster.tls.key to PEM files (on a joining host --tls-certificate and --tls-key), " +
      "or listen on 127.0.0.1",
  );
}

/**
 * Refuses an address that would be spoken to in clear text over a network.
 *
 * @throws {WireError} for `ws://` to anything but loopback.
 */
export function requireSafeAddress(url: string): void {
  const parsed = URL.parse(url);
  if (parsed?.protocol !== "ws:" || isLoopback(parsed.hostname)) return;
  throw new WireError(
    `connecting to ${url}: any address but loopback needs TLS; use the wss:// address that the controller prints`,
  );
}
