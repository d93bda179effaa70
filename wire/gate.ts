/**
 * A listener's gate: decides from an upgrade request's Authorization header who wants to connect, before anything of the
 * connection is read. Every refusal says its reason to this side only. It remembers the nonces of late, bounded.
 */
import { Buffer } from "node:buffer";
import { type KeyObject, verify } from "node:crypto";
import type { z } from "zod";
import { WireError } from "./error.ts";
import {
  type Claims,
  claimsSchema,
  headerCharsMax,
  type Identity,
  type Proof,
  proofSchema,
  publicKey,
  scheme,
  signatureChars,
} from "./identity.ts";

/** How far clocks of two machines may be apart. */
export const clockSkewMs = 5 * 60_000;
/** Most connections of the last ten minutes whose nonces are remembered; more are refused. */
const noncesMax = 100_000;

/** Options of a {@linkcode Gate}. */
export interface GateOptions {
  /** The identity of the listener, of the same run. */
  identity: Identity;
  /** Names under which clients may mean this listener. */
  audiences: readonly string[];
  /** The role that an actor's id stands for; absent lets any role have any name. */
  roleOf?: (id: string) => string | undefined;
  /** Lowest start number of an actor that may come in: those of its earlier processes are void. @default 0 */
  lowestOf?: (actor: string) => number;
  /** Milliseconds since 1970. @default Date.now */
  now?: () => number;
}

/** Checks who connects to one listener. */
export class Gate {
  readonly #runKey: KeyObject;
  readonly #now: () => number;
  /** Nonce of a proof → when it may be forgotten; in order of time. */
  readonly #seen = new Map<string, number>();
  /** Latest start of each actor that has connected: its earlier processes are strangers from then on. */
  readonly #latest = new Map<string, number>();

  constructor(private readonly options: GateOptions) {
    this.#runKey = publicKey(options.identity.runKey);
    this.#now = options.now ?? Date.now;
  }

  /**
   * Who sent the header.
   *
   * @throws {WireError} with the reason when it must not come in.
   */
  check(header: string | null): Claims {
    if (header === null) throw new WireError("no Authorization header");
    if (header.length > headerCharsMax) throw new WireError("Authorization header is too long");
    const [name, text, ...rest] = header.split(" ");
    const parts = text?.split(".") ?? [];
    if (name !== scheme || rest.length > 0 || parts.length !== 4) {
      throw new WireError("Authorization header is malformed");
    }
    const [body, signature, proofBody, proofSignature] = parts;
    const claims = opened(body, { what: "token", signature, key: this.#runKey, schema: claimsSchema });
    const now = this.#now();
    this.#checkClaims(claims, now);
    const holder = publicKey(claims.key);
    this.#checkProof(
      opened(proofBody, { what: "proof", signature: proofSignature, key: holder, schema: proofSchema }),
      now,
    );
    if (claims.attempt !== null) this.#latest.set(claims.actor, claims.attempt);
    return claims;
  }

  #checkClaims(claims: Claims, now: number): void {
    const { identity, roleOf, lowestOf } = this.options;
    const own = identity.claims;
    if (claims.run !== own.run) throw new WireError("token is of another run");
    if (claims.expires + clockSkewMs < now) throw new WireError("token has expired");
    if (claims.notBefore - clockSkewMs > now) throw new WireError("token is not valid yet; check the machines' clocks");
    if (roleOf !== undefined && roleOf(claims.actor) !== claims.role) {
      throw new WireError(`token's role ${claims.role} is not that of actor ${claims.actor}`.slice(0, 200));
    }
    if (claims.attempt === null) return;
    const lowest = Math.max(this.#latest.get(claims.actor) ?? 0, lowestOf?.(claims.actor) ?? 0);
    if (claims.attempt < lowest) throw new WireError(`token is of attempt ${claims.attempt}, now is ${lowest}`);
  }

  #checkProof({ audience, at, nonce }: Proof, now: number): void {
    if (!this.options.audiences.includes(audience)) throw new WireError("proof is for another listener");
    if (Math.abs(at - now) > clockSkewMs) throw new WireError("proof is too old or of the future");
    if (this.#seen.has(nonce)) throw new WireError("proof was used before");
    for (const [old, until] of this.#seen) {
      if (until > now) break;
      this.#seen.delete(old);
    }
    if (this.#seen.size >= noncesMax) throw new WireError(`more than ${noncesMax} connections within ten minutes`);
    this.#seen.set(nonce, now + 2 * clockSkewMs);
  }
}

/** What is signed, checked: first the signature, then its shape. */
function opened<T>(
  body: string,
  { what, signature, key, schema }: { what: string; signature: string; key: KeyObject; schema: z.ZodType<T> },
): T {
  // base64url has several spellings of the same bytes; only the one that we write is taken.
  const bytes = Buffer.from(signature, "base64url");
  const canonical = signature.length === signatureChars && bytes.toString("base64url") === signature;
  if (!canonical || !verify(null, Buffer.from(body), key, bytes)) throw new WireError(`${what}'s signature is wrong`);
  let value: unknown;
  try {
    value = JSON.parse(Buffer.from(body, "base64url").toString());
  } catch {
    throw new WireError(`${what} is malformed`);
  }
  const result = schema.safeParse(value);
  if (!result.success) throw new WireError(`${what} is malformed`);
  return result.data;
}
