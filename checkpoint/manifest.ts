/**
 * What a checkpoint folder says of itself: whose it is, where in the run it stands, and the SHA-256 and length of each of
 * its files and of itself. It knows no file system and not what `progress` means.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { CheckpointError } from "./error.ts";

/** Version of the folder's layout; a reader takes exactly this one. */
export const manifestFormat = 1;

/** Files of a checkpoint beside its manifest. */
export const checkpointFiles = ["model.safetensors", "optimizer.safetensors"] as const;

/** Name of one of {@linkcode checkpointFiles}. */
export type CheckpointFile = typeof checkpointFiles[number];

/** Digest and length of one file. */
export interface FileDigest {
  /** Lower-case hexadecimal SHA-256. */
  sha256: string;
  byteLength: number;
}

/** Contents of `manifest.json`. */
export interface Manifest {
  format: number;
  runId: string;
  /** Steps taken before this state. */
  step: number;
  /** Where the run stands beyond the tensors (epoch, sample cursor, schedule state); plain JSON. */
  progress: Record<string, unknown>;
  /** SHA-256 of the run's configuration. */
  configDigest: string;
  /** ISO 8601, for people only. */
  createdAt: string;
  files: Record<CheckpointFile, FileDigest>;
}

const sha256Text = z.string().regex(/^[0-9a-f]{64}$/);
const fileDigest = z.strictObject({ sha256: sha256Text, byteLength: z.int().nonnegative() });

const schema: z.ZodType<Manifest> = z.strictObject({
  format: z.literal(manifestFormat),
  runId: z.string().min(1).max(200),
  step: z.int().nonnegative(),
  progress: z.record(z.string(), z.unknown()),
  configDigest: sha256Text,
  createdAt: z.iso.datetime(),
  files: z.strictObject({ "model.safetensors": fileDigest, "optimizer.safetensors": fileDigest }),
});

/** The text of `manifest.json`, with a digest over its own contents as last field. */
export function manifestText(manifest: Manifest): string {
  const checked = schema.parse(manifest);
  return JSON.stringify({ ...checked, digest: digestOf(checked) }, null, 2) + "\n";
}

/**
 * Reads `manifest.json` back.
 *
 * @throws {CheckpointError} for anything but an intact manifest of this format.
 */
export function parseManifest(text: string): Manifest {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new CheckpointError("manifest.json is no JSON");
  }
  if (typeof value !== "object" || value === null || !("format" in value)) {
    throw new CheckpointError("manifest.json is not of this program");
  }
  if (value.format !== manifestFormat) {
    throw new CheckpointError(`manifest.json has format ${String(value.format)}, this program reads ${manifestFormat}`);
  }
  const { digest, ...rest } = value as Record<string, unknown>;
  const result = schema.safeParse(rest);
  if (!result.success) {
    const issue = result.error.issues[0];
    throw new CheckpointError(`manifest.json is malformed at "${issue.path.join(".")}": ${issue.message}`);
  }
  if (digest !== digestOf(result.data)) throw new CheckpointError("manifest.json does not match its own digest");
  return result.data;
}

/** Lower-case hexadecimal SHA-256. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function digestOf(manifest: Manifest): string {
  return sha256Hex(canonicalJson(manifest));
}

/** JSON with sorted keys and no spaces: one text for equal values. */
export function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item)).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const fields = Object.entries(value).filter(([, item]) => item !== undefined).sort(([a], [b]) => a < b ? -1 : 1);
    return `{${fields.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}
