/**
 * What tells one state of this program's code from another: hosts whose code differs from the controller's would compute
 * other numbers without a word. It reads files and knows nothing of what they do.
 */
import { createHash } from "node:crypto";

/** What runs are made of; people keep experiments of their own beside it. */
export const programParts = [
  "actors/",
  "api/",
  "checkpoint/",
  "cli/",
  "collectives/",
  "config/",
  "config.ts",
  "data/",
  "deno.lock",
  "device/",
  "evaluate/",
  "kernels/",
  "main.ts",
  "methods/",
  "mod.ts",
  "nn/",
  "optim/",
  "plan/",
  "plan.ts",
  "setup/",
  "swav/",
  "tensor/",
  "weights/",
  "wire/",
];

/** SHA-256 over the program's modules and locked packages; undefined where its code is no folder of files. */
export function codeDigest(root: URL = new URL("..", import.meta.url)): string | undefined {
  if (root.protocol !== "file:") return undefined;
  const hash = createHash("sha256");
  for (const path of programParts.flatMap((part) => part.endsWith("/") ? modulesOf(root, part) : [part])) {
    // Checkouts may differ in their line ends.
    const text = textOf(new URL(path, root)).replaceAll("\r\n", "\n");
    hash.update(`${path} ${text.length}\n`).update(text);
  }
  return hash.digest("hex");
}

/** A file's text; empty where there is none, as where packages are locked by whoever imports this program. */
function textOf(path: URL): string {
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "";
    throw error;
  }
}

/** Paths below the folder, in an order that does not depend on the file system. */
function modulesOf(root: URL, folder: string): string[] {
  const entries = [...Deno.readDirSync(new URL(folder, root))].sort((a, b) => a.name < b.name ? -1 : 1);
  return entries.flatMap(({ name, isDirectory }) => {
    if (isDirectory) return modulesOf(root, `${folder}${name}/`);
    return name.endsWith(".ts") ? [`${folder}${name}`] : [];
  });
}

/** Why a host is sent away whose code is not ours; undefined where it is, or where one of the two is not known. */
export function otherCode(
  host: string,
  { theirs, ours }: { theirs: string | undefined; ours: string | undefined },
): string | undefined {
  if (theirs === undefined || ours === undefined || theirs === ours) return undefined;
  return `${host} runs other code than this run: bring it to the same version and join again`;
}
