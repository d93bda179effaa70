/**
 * The quickstart's images: two artists' emoji sets from npm (twemoji and noto, both drawn by people, in nine categories),
 * rendered once into an ordinary image folder in the user's cache directory. It knows vector files and folders, nothing
 * of training. Needs read, write, env and ffi (sharp).
 */
import sharp from "sharp";
import { z } from "zod";
import { cacheFolder } from "./cache.ts";

/** The two sets, in the order in which they are rendered. */
export const EMOJI_SETS = ["twemoji", "noto"] as const;
/** The name of an emoji set. */
export type EmojiSet = typeof EMOJI_SETS[number];

/** Raised when the images that this file renders change, so that an older rendering is never taken for the new one. */
const RENDERING_VERSION = 1;

const README = `Emoji rendered for SEER's quickstart: real artwork, one folder per artist, one sub-folder per category.
Files of the same name in both sets show the same emoji. Variants of skin tone are left out.

twemoji  Copyright Twitter, Inc. and other contributors (jdecked/twemoji), licensed under CC BY 4.0
         https://creativecommons.org/licenses/by/4.0/
         Changed: rendered to PNG on white. Source: npm @iconify-json/twemoji
noto     Copyright Google LLC (googlefonts/noto-emoji), licensed under the Apache License 2.0
         https://www.apache.org/licenses/LICENSE-2.0
         Changed: rendered to PNG on white. Source: npm @iconify-json/noto
`;

const iconsSchema = z.object({
  width: z.number().optional(),
  height: z.number().optional(),
  icons: z.record(
    z.string(),
    z.object({
      body: z.string(),
      left: z.number().optional(),
      top: z.number().optional(),
      width: z.number().optional(),
      height: z.number().optional(),
    }),
  ),
});
const metadataSchema = z.object({ categories: z.record(z.string(), z.array(z.string())) });

/** Options of {@linkcode renderEmoji}. */
export interface EmojiOptions {
  /** Side of the images in pixels. @default 64 */
  pixels?: number;
  /** Folder that holds the rendering. @default `<user's cache>/seer/images` */
  directory?: string;
  /** Renders only this many images of each set, for tests. @default all */
  imagesPerSetMax?: number;
  /** Images rendered at the same time. @default 4 */
  concurrency?: number;
  /** Called as images are written; not at all when the rendering exists already. */
  progress?: (done: number, total: number) => void;
}

/** Where the rendered images lie. */
export interface EmojiFolders {
  /** Holds both sets: pretraining's images. */
  readonly path: string;
  /** One set: `<path>/<category>/<name>.png`. */
  readonly sets: Readonly<Record<EmojiSet, { readonly path: string; readonly images: number }>>;
  /** Whether this call rendered them. */
  readonly rendered: boolean;
}

interface Drawing {
  /** Relative path of the PNG. */
  readonly file: string;
  readonly svg: string;
}

/** The emoji's name from its image's path: equal in both sets for the same emoji. */
export function emojiName(file: string): string {
  return file.slice(file.lastIndexOf("/") + 1).replace(/\.png$/, "");
}

/** A category as a folder name: `"Animals & Nature"` → `"animals-nature"`. */
function folderName(category: string): string {
  return category.toLowerCase().replace(/[^a-z0-9]+/g, "-");
}

// The specifier is not a literal: type-checking would infer a type from 36 MB of JSON.
async function importJson(specifier: string): Promise<unknown> {
  const loaded: { default: unknown } = await import(specifier, { with: { type: "json" } });
  return loaded.default;
}

async function drawings(set: EmojiSet, pixels: number): Promise<Drawing[]> {
  const { icons, width = 16, height = 16 } = iconsSchema.parse(await importJson(`@iconify-json/${set}/icons.json`));
  const { categories } = metadataSchema.parse(await importJson(`@iconify-json/${set}/metadata.json`));
  const found: Drawing[] = [];
  for (const category of Object.keys(categories).sort()) {
    for (const name of [...new Set(categories[category])].sort()) {
      const icon = icons[name];
      if (icon === undefined || name.includes("skin-tone")) continue;
      const box = [icon.left ?? 0, icon.top ?? 0, icon.width ?? width, icon.height ?? height].join(" ");
      found.push({
        file: `${set}/${folderName(category)}/${name}.png`,
        svg: `<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ` +
          `width="${pixels}" height="${pixels}" viewBox="${box}">${icon.body}</svg>`,
      });
    }
  }
  return found;
}

async function renderOne({ svg }: Drawing): Promise<Uint8Array> {
  return await sharp(new TextEncoder().encode(svg)).flatten({ background: "white" }).png({ compressionLevel: 6 })
    .toBuffer();
}

/** Renders the drawings, `concurrency` at a time; after a failure no other is begun, and none is left running. */
async function renderAll(
  all: readonly Drawing[],
  { temporary, concurrency, progress }: {
    readonly temporary: string;
    readonly concurrency: number;
    readonly progress?: (done: number, total: number) => void;
  },
): Promise<void> {
  let next = 0, done = 0, failed = false;
  const worker = async (): Promise<void> => {
    while (next < all.length && !failed) {
      const drawing = all[next++];
      try {
        await Deno.writeFile(`${temporary}/${drawing.file}`, await renderOne(drawing));
        progress?.(++done, all.length);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const ended = await Promise.allSettled(Array.from({ length: concurrency }, worker));
  for (const result of ended) if (result.status === "rejected") throw result.reason;
}

async function countImages(folder: string): Promise<number> {
  let images = 0;
  for await (const entry of Deno.readDir(folder)) {
    if (entry.isDirectory) images += await countImages(`${folder}/${entry.name}`);
    else if (entry.name.endsWith(".png")) images++;
  }
  return images;
}

async function describe(path: string, rendered: boolean): Promise<EmojiFolders> {
  const of = async (set: EmojiSet): Promise<{ path: string; images: number }> => ({
    path: `${path}/${set}`,
    images: await countImages(`${path}/${set}`),
  });
  return { path, sets: { twemoji: await of("twemoji"), noto: await of("noto") }, rendered };
}

async function exists(path: string): Promise<boolean> {
  return await Deno.stat(path).then(() => true, (error: unknown) => {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  });
}

/**
 * The emoji images, rendered on first use. They are written under a temporary name that is renamed at the end, so an
 * interrupted rendering is never used; two processes at once do no harm.
 *
 * @throws {Error} When the cache directory cannot be written.
 */
export async function renderEmoji(options: EmojiOptions = {}): Promise<EmojiFolders> {
  const { pixels = 64, imagesPerSetMax = Infinity, concurrency = 4, progress } = options;
  const directory = options.directory ?? `${cacheFolder()}/images`;
  const path = `${directory}/emoji-${pixels}px-v${RENDERING_VERSION}`;
  if (await exists(path)) return await describe(path, false);

  await Deno.mkdir(directory, { recursive: true });
  const temporary = await Deno.makeTempDir({ dir: directory, prefix: "rendering-" });
  try {
    const all: Drawing[] = [];
    for (const set of EMOJI_SETS) all.push(...(await drawings(set, pixels)).slice(0, imagesPerSetMax));
    const folders = new Set(all.map(({ file }) => file.slice(0, file.lastIndexOf("/"))));
    for (const folder of folders) await Deno.mkdir(`${temporary}/${folder}`, { recursive: true });
    await renderAll(all, { temporary, concurrency, progress });
    await Deno.writeTextFile(`${temporary}/README.txt`, README);
    await Deno.chmod(temporary, 0o755).catch(() => {}); // not on Windows
    await Deno.rename(temporary, path).catch(async (error: unknown) => {
      if (!(await exists(path))) throw error; // another process was faster
    });
  } finally {
    await Deno.remove(temporary, { recursive: true }).catch(() => {});
  }
  return await describe(path, true);
}
