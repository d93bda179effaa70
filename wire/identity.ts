/**
 * Who an actor is, and how it proves that to a listener. The run's secret gives an Ed25519 key; whoever has the secret
 * (controller and hosts) signs for every start of an actor a token that names run, role, actor, attempt and expiry, and
 * the public half of a key that this one process holds. For every connection that process signs a proof for one listener,
 * one moment and one nonce, so that neither secret nor key ever travels and nothing that travels works twice. It knows no
 * role by name and no socket.
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, hkdfSync, type KeyObject, sign } from "node:crypto";
import { z } from "zod";
import { WireError } from "./error.ts";

/** How long a token is valid; the controller renews those of its actors well before. */
export const tokenLifeMs = 10 * 60_000;
/** Time between two renewals. */
export const renewalMs = tokenLifeMs / 3;
/** First word of the Authorization header. */
export const scheme = "Seer";
/** Longest Authorization header that is looked at. */
export const headerCharsMax = 2_048;

/** What a token says. Times are milliseconds since 1970. */
export interface Claims {
  readonly run: string;
  readonly role: string;
  readonly actor: string;
  /** Start of the run's actors that it belongs to; null for those that outlive attempts. */
  readonly attempt: number | null;
  readonly notBefore: number;
  readonly expires: number;
  readonly nonce: string;
  /** Public key of the process, 32 bytes in base64url. */
  readonly key: string;
}

/** What a proof says: for whom, when, and a number used once. */
export interface Proof {
  readonly audience: string;
  readonly at: number;
  readonly nonce: string;
}

const word = z.string().min(1).max(200);
const key = z.string().regex(/^[\w-]{43}$/);
const nonce = z.string().regex(/^[\w-]{22}$/);

/** Schema of {@linkcode Claims}. */
export const claimsSchema: z.ZodType<Claims> = z.strictObject({
  run: z.string().regex(/^[\da-f]{32}$/),
  role: word,
  actor: word,
  attempt: z.int().min(0).nullable(),
  notBefore: z.int(),
  expires: z.int(),
  nonce,
  key,
});

/** Schema of {@linkcode Proof}. */
export const proofSchema: z.ZodType<Proof> = z.strictObject({ audience: word, at: z.int(), nonce });

/** What a process needs to prove who it is; a secret, because of `seed`. */
export interface Pass {
  /** Claims and their signature. */
  readonly token: string;
  /** Private key of the process, 32 bytes in base64url. */
  readonly seed: string;
  /** Public key of the run. */
  readonly runKey: string;
}

/** Schema of {@linkcode Pass}. */
export const passSchema: z.ZodType<Pass> = z.strictObject({
  token: z.string().min(1).max(1_500),
  seed: key,
  runKey: key,
});

/** For whom a token is. */
export interface Subject {
  readonly actor: string;
  readonly role: string;
  readonly attempt: number | null;
}

/** Signs tokens; made from the run's secret. */
export class Authority {
  /** Id of the run, known to all who know its secret. */
  readonly run: string;
  /** Public key that tokens are checked with, in base64url. */
  readonly runKey: string;
  readonly #key: KeyObject;

  constructor(secret: string) {
    if (secret === "") throw new WireError("a run's secret must not be empty; set SEER_TOKEN to a long random text");
    this.#key = privateKey(derived(secret, "seer: key that signs actors' tokens"));
    this.run = Buffer.from(derived(secret, "seer: id of the run")).toString("hex").slice(0, 32);
    this.runKey = publicBytes(this.#key);
  }

  /** A token for one start of one actor, with a key of its own unless `seed` goes on with an earlier one. */
  pass(subject: Subject, { now = Date.now(), seed = random(32) }: { now?: number; seed?: string } = {}): Pass {
    const key = publicBytes(privateKey(Buffer.from(seed, "base64url")));
    return { token: this.token({ ...subject, key }, now), seed, runKey: this.runKey };
  }

  /** A token for the holder of `key`; with what an earlier one claimed it goes on with that. */
  token({ actor, role, attempt, key }: Subject & { readonly key: string }, now = Date.now()): string {
    const claims: Claims = {
      run: this.run,
      role,
      actor,
      attempt,
      notBefore: now,
      expires: now + tokenLifeMs,
      nonce: random(16),
      key,
    };
    return signed(claims, this.#key);
  }
}

/** One process of one run, as it presents itself. */
export class Identity {
  readonly claims: Claims;
  readonly runKey: string;
  #token: string;
  readonly #key: KeyObject;
  readonly #renewal: (() => string) | undefined;

  /** @param renewal Makes a new token for each connection, for those who can. */
  constructor(pass: Pass, renewal?: () => string) {
    this.#token = pass.token;
    this.#key = privateKey(Buffer.from(pass.seed, "base64url"));
    this.#renewal = renewal;
    this.runKey = pass.runKey;
    const [body] = pass.token.split(".");
    this.claims = claimsSchema.parse(JSON.parse(Buffer.from(body, "base64url").toString()));
  }

  /** The identity of one who has the run's secret. */
  static ofSecret(secret: string, subject: Subject): Identity {
    const authority = new Authority(secret);
    const pass = authority.pass(subject);
    return new Identity(pass, () => authority.pass(subject, { seed: pass.seed }).token);
  }

  /** Takes a newer token in place of the one that will expire. */
  renew(token: string): void {
    this.#token = token;
  }

  /** The Authorization header for one connection to `audience`. */
  header(audience: string, { now = Date.now(), nonce = random(16) }: { now?: number; nonce?: string } = {}): string {
    const proof: Proof = { audience, at: now, nonce };
    return `${scheme} ${this.#renewal?.() ?? this.#token}.${signed(proof, this.#key)}`;
  }
}

/** The public key that `text` holds, 32 bytes in base64url. */
export function publicKey(text: string): KeyObject {
  const prefix = Buffer.from("302a300506032b6570032100", "hex"); // RFC 8410, SubjectPublicKeyInfo of Ed25519
  const bytes = Buffer.concat([prefix, Buffer.from(text, "base64url")]);
  return createPublicKey({ key: bytes, format: "der", type: "spki" });
}

/** Length in characters of a signature in base64url. */
export const signatureChars = 86;

function signed(value: unknown, by: KeyObject): string {
  const body = Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${body}.${Buffer.from(sign(null, Buffer.from(body), by)).toString("base64url")}`;
}

function privateKey(seed: Uint8Array): KeyObject {
  const prefix = Buffer.from("302e020100300506032b657004220420", "hex"); // RFC 8410, PrivateKeyInfo of Ed25519
  return createPrivateKey({ key: Buffer.concat([prefix, seed]), format: "der", type: "pkcs8" });
}

function publicBytes(by: KeyObject): string {
  const spki = createPublicKey(by).export({ format: "der", type: "spki" });
  return Buffer.from(spki).subarray(-32).toString("base64url");
}

function derived(secret: string, purpose: string): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, "", purpose, 32));
}

function random(byteLength: number): string {
  return Buffer.from(crypto.getRandomValues(new Uint8Array(byteLength))).toString("base64url");
}
