/**
 * The tuner's findings in the user's cache: one JSON file per adapter, provider and version of Deno, each entry with the
 * digest of the kernels it was chosen from. It decides nothing; a file that cannot be read counts as empty and is told.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import type { AdapterDescription } from "../device/device.ts";
import type { TunedChoice } from "../device/tuner.ts";
import { cacheFolder } from "./cache.ts";

const entrySchema = z.strictObject({
  variant: z.string().min(1).max(200),
  /** `variantsDigest` of the variants that it was chosen from. */
  digest: z.string(),
  medianMs: z.number().optional(),
  usualMs: z.number().optional(),
});

const fileSchema = z.strictObject({
  format: z.literal(1),
  /** What the file is for; written for people, and compared in case two files' names collide. */
  identity: z.string(),
  entries: z.record(z.string(), entrySchema),
});

/** What was found for one operation and shape. */
export type TuningEntry = z.infer<typeof entrySchema>;

/** What tells two files apart: all that changes how fast a kernel is, its text aside. */
export function tuningIdentity(adapter: AdapterDescription, denoVersion: string = Deno.version.deno): string {
  const { provider, name, vendor, architecture, features } = adapter;
  return [provider, name, vendor, architecture, [...features].sort().join("+"), `Deno ${denoVersion}`].join(" | ");
}

/** Options of {@linkcode TuningCache.open}. */
export interface TuningCacheOptions {
  /** @default the folder `tuning` of the user's cache */
  readonly folder?: string;
  /** Takes a line when the file cannot be used. */
  readonly log?: (line: string) => void;
}

/** The findings of one adapter. */
export class TuningCache {
  /** Path of the file. */
  readonly file: string;
  readonly #identity: string;
  readonly #entries: Map<string, TuningEntry>;

  private constructor(file: string, identity: string, entries: Record<string, TuningEntry>) {
    this.file = file;
    this.#identity = identity;
    this.#entries = new Map(Object.entries(entries));
  }

  /** Reads the adapter's file; without one, or with a broken one, nothing is known. */
  static async open(adapter: AdapterDescription, options: TuningCacheOptions = {}): Promise<TuningCache> {
    const identity = tuningIdentity(adapter);
    const slug = adapter.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-").replaceAll(/^-|-$/g, "").slice(0, 60);
    const hash = createHash("sha256").update(identity).digest("hex").slice(0, 12);
    const folder = options.folder ?? `${cacheFolder()}/tuning`;
    const file = `${folder}/${slug}-${adapter.provider}-${hash}.json`;
    try {
      const found = fileSchema.parse(JSON.parse(await Deno.readTextFile(file)));
      if (found.identity !== identity) throw new TypeError(`it is for ${found.identity}`);
      return new TuningCache(file, identity, found.entries);
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) {
        const reason = error instanceof z.ZodError ? "its fields are not as expected" : oneLine(error);
        options.log?.(`ignoring ${file}: ${reason}; \`deno task tune\` writes it anew`);
      }
      return new TuningCache(file, identity, {});
    }
  }

  /** Number of entries, stale ones included. */
  get size(): number {
    return this.#entries.size;
  }

  /** What was found among the variants of this digest; asked for only when there is an entry. */
  find(key: string, digest: () => string): TuningEntry | undefined {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.digest === digest() ? entry : undefined;
  }

  /** Takes a choice that was timed. */
  add({ key, variant, digest, medianMs, usualMs }: TunedChoice): void {
    this.#entries.set(key, { variant, digest, medianMs, usualMs });
  }

  /**
   * Writes the file: first beside it, then in its place, so that a reader sees the old or the new one. What another
   * process wrote meanwhile for other keys is lost, and found again by the next tuning.
   */
  async save(): Promise<void> {
    const entries = Object.fromEntries([...this.#entries].sort(([a], [b]) => a < b ? -1 : 1));
    const text = JSON.stringify({ format: 1, identity: this.#identity, entries }, null, 1) + "\n";
    await Deno.mkdir(this.file.slice(0, this.file.lastIndexOf("/")), { recursive: true });
    const draft = `${this.file}.${crypto.randomUUID().slice(0, 8)}.tmp`;
    try {
      await Deno.writeTextFile(draft, text);
      await Deno.rename(draft, this.file);
    } catch (error) {
      await Deno.remove(draft).catch(() => {});
      throw error;
    }
  }
}

function oneLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split("\n")[0].slice(0, 200);
}
