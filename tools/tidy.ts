/**
 * Checks that no linter makes: files of at most 400 lines, texts that are not to be committed, and a test for every
 * kernel. It reads the sources of the checkout and changes nothing.
 */

const LINES_MAX = 400;

/** Folders that hold no source of ours. */
const SKIPPED = new Set([".git", ".cache", "coverage", "golden", "node_modules", "runs", "shared"]);

/** Texts that a commit must not hold, split so that this file does not hold them either. */
const BANNED = ["@ts-" + "ignore", "@ts-" + "nocheck", "TO" + "DO", "FIX" + "ME"];

/** One source file. */
export interface SourceFile {
  /** Path below the checkout, with forward slashes. */
  readonly path: string;
  readonly text: string;
}

/** Complaints about one file, each starting with its path and line. */
export function complainAboutFile({ path, text }: SourceFile): string[] {
  const lines = text.replace(/\n$/, "").split("\n");
  const complaints: string[] = [];
  if (lines.length > LINES_MAX) {
    complaints.push(`${path}: files have at most ${LINES_MAX} lines, and this one has ${lines.length}; split it`);
  }
  for (const [index, line] of lines.entries()) {
    for (const banned of BANNED) {
      if (new RegExp(`(?<!\\w)${banned}(?!\\w)`).test(line)) {
        complaints.push(`${path}:${index + 1}: "${banned}" is not committed; finish it, or open an issue`);
      }
    }
  }
  return complaints;
}

/**
 * Kernels without a test: every `kernels/NAME.ts` that builds a `Kernel` needs a file below `tests/` that imports it,
 * unless it is a part of another kernel.
 */
export function complainAboutKernels(files: readonly SourceFile[]): string[] {
  const tests = files.filter(({ path }) => /^tests\/.*\.ts$/.test(path)).map(({ text }) => text);
  const kernels = files.filter(({ path }) => /^kernels\/[^/]+\.ts$/.test(path));
  const isPart = (path: string) => kernels.some(({ text }) => text.includes(`"./${path.slice("kernels/".length)}"`));
  return kernels
    .filter(({ text }) => /^export function [^{]*\): (?:readonly )?Kernel\b/m.test(text))
    .filter(({ path }) => !isPart(path) && !tests.some((text) => text.includes(`/${path}"`)))
    .map(({ path }) => `${path}: every kernel has a test beside its reference, and no file in tests/ imports it`);
}

/** Every TypeScript file below `root`, in alphabetical order. */
export async function readSources(root: string): Promise<SourceFile[]> {
  const files: SourceFile[] = [];
  const visit = async (folder: string) => {
    for await (const entry of Deno.readDir(`${root}/${folder}`)) {
      const path = folder ? `${folder}/${entry.name}` : entry.name;
      if (entry.isDirectory && !SKIPPED.has(entry.name)) await visit(path);
      else if (entry.isFile && entry.name.endsWith(".ts")) {
        files.push({ path, text: await Deno.readTextFile(`${root}/${path}`) });
      }
    }
  };
  await visit("");
  return files.sort((a, b) => a.path < b.path ? -1 : 1);
}

/** Everything untidy below `root`; empty when all is well. */
export async function complainAbout(root: string): Promise<string[]> {
  const files = await readSources(root);
  return [...files.flatMap(complainAboutFile), ...complainAboutKernels(files)];
}

if (import.meta.main) {
  const complaints = await complainAbout(
    decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, ""),
  );
  for (const complaint of complaints) console.log(complaint);
  console.log(complaints.length === 0 ? "Tidy" : `${complaints.length} untidy`);
  Deno.exit(complaints.length === 0 ? 0 : 1);
}
