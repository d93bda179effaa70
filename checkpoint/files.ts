/**
 * The few operations on files that a store needs, each durable when it returns, behind an interface so that tests can
 * stop between any two of them. It knows no checkpoint.
 */
import { createHash } from "node:crypto";
import type { FileDigest } from "./manifest.ts";

/** What a store does to files; paths are absolute or relative to the working directory. */
export interface Files {
  /** Creates the folder and those above it. */
  makeFolder(path: string): Promise<void>;
  /** Writes a new file and syncs it. */
  writeFile(path: string, pieces: Iterable<Uint8Array<ArrayBuffer>>): Promise<FileDigest>;
  /** Moves a file over another, or a folder to a free name. */
  rename(from: string, to: string): Promise<void>;
  /** Makes the names inside a folder durable. */
  syncFolder(path: string): Promise<void>;
  /** Removes a file or a folder with all it holds; missing is fine. */
  remove(path: string): Promise<void>;
  /** @throws {Deno.errors.NotFound} */
  readFile(path: string): Promise<Uint8Array<ArrayBuffer>>;
  /** Names inside a folder, sorted; none when it is missing. */
  list(path: string): Promise<string[]>;
}

/** The file system of this machine. */
export const diskFiles: Files = {
  async makeFolder(path) {
    await Deno.mkdir(path, { recursive: true });
  },
  async writeFile(path, pieces) {
    using file = await Deno.open(path, { write: true, create: true, truncate: true });
    const hash = createHash("sha256");
    let byteLength = 0;
    for (const piece of pieces) {
      hash.update(piece);
      byteLength += piece.byteLength;
      for (let written = 0; written < piece.byteLength;) written += await file.write(piece.subarray(written));
    }
    await file.sync();
    return { sha256: hash.digest("hex"), byteLength };
  },
  async rename(from, to) {
    await Deno.rename(from, to);
  },
  async syncFolder(path) {
    // Windows opens no folders; NTFS journals names by itself.
    if (Deno.build.os === "windows") return;
    using folder = await Deno.open(path, { read: true });
    await folder.sync();
  },
  async remove(path) {
    await Deno.remove(path, { recursive: true }).catch(ignoreMissing);
  },
  async readFile(path) {
    return await Deno.readFile(path);
  },
  async list(path) {
    const names: string[] = [];
    try {
      for await (const entry of Deno.readDir(path)) names.push(entry.name);
    } catch (error) {
      ignoreMissing(error);
    }
    return names.sort();
  },
};

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}
