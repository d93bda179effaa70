/**
 * Images in a folder of the file system, sub-folders included. The first sub-folder is the label, as in torchvision's
 * `ImageFolder`; images directly in the folder have none. It knows file names and bytes, nothing of pixels.
 */
import { readImageFile } from "./image_file.ts";
import type { ImageSource } from "./source.ts";

/** File name endings that are taken for images. */
export const IMAGE_EXTENSIONS: readonly string[] = [
  "avif",
  "gif",
  "jfif",
  "jpe",
  "jpeg",
  "jpg",
  "png",
  "tif",
  "tiff",
  "webp",
];

/** Options of {@linkcode openFolder}. */
export interface FolderOptions {
  /** Larger files count as unreadable. @default 268435456 (256 MiB) */
  fileBytesMax?: number;
}

/** A folder opened as a source. */
export interface FolderSource extends ImageSource {
  readonly path: string;
  readonly classes: readonly string[];
  label(i: number): number;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function isImageName(name: string): boolean {
  const dot = name.lastIndexOf(".");
  return dot > 0 && !name.startsWith(".") && IMAGE_EXTENSIONS.includes(name.slice(dot + 1).toLowerCase());
}

/** Collects the relative paths ("/" between parts) of all images below `path`. */
async function collectImages(path: string): Promise<string[]> {
  const found: string[] = [];
  const visit = async (prefix: string, ancestors: readonly string[]): Promise<void> => {
    const folder = prefix === "" ? path : `${path}/${prefix}`;
    const real = await Deno.realPath(folder);
    if (ancestors.includes(real)) return; // a symbolic link to a folder above
    for await (const entry of Deno.readDir(folder)) {
      if (entry.name.startsWith(".")) continue;
      const name = prefix === "" ? entry.name : `${prefix}/${entry.name}`;
      let isDirectory = entry.isDirectory;
      if (entry.isSymlink) {
        const target = await Deno.stat(`${path}/${name}`).catch(() => null);
        if (target === null) continue; // a dangling link
        isDirectory = target.isDirectory;
      }
      if (isDirectory) await visit(name, [...ancestors, real]);
      else if (isImageName(entry.name)) found.push(name);
    }
  };
  await visit("", []);
  return found.sort(compareText);
}

/**
 * Opens a folder of images, sub-folders included, in the order of their relative paths (by UTF-16 code unit, so the same
 * on every host and in every locale). Hidden files and files without an image's ending are passed over; links are
 * followed. Needs read permission for the folder.
 *
 * Image `i` has label `label(i)`, the index in `classes` of its first sub-folder; images directly in `path` have the
 * class "".
 *
 * @throws {Error} When the folder is missing, is not a folder, or holds no file with an image's ending.
 */
export async function openFolder(path: string, options: FolderOptions = {}): Promise<FolderSource> {
  const { fileBytesMax = 268_435_456 } = options;
  const status = await Deno.stat(path).catch((error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  });
  if (status === null) throw new Error(`Cannot open the image folder "${path}": it does not exist; check the path`);
  if (!status.isDirectory) {
    throw new Error(`Cannot open the image folder "${path}": it is a file; give the folder that holds it`);
  }
  const names = await collectImages(path);
  if (names.length === 0) {
    throw new Error(
      `Cannot open the image folder "${path}": it holds no image; ` +
        `files ending in ${IMAGE_EXTENSIONS.join(", ")} are looked for, in sub-folders too`,
    );
  }
  const classOf = (name: string): string => name.includes("/") ? name.slice(0, name.indexOf("/")) : "";
  const classes = [...new Set(names.map(classOf))].sort(compareText);
  const labelOfClass = new Map(classes.map((name, label) => [name, label]));
  return {
    path,
    size: names.length,
    classes,
    name: (i) => names[i],
    label: (i) => labelOfClass.get(classOf(names[i])) ?? 0,
    read: (i) => readImageFile(`${path}/${names[i]}`, { name: names[i], fileBytesMax }),
  };
}
