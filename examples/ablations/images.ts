/** Number of unique images: an eighth, a quarter, a half and all of them, drawn by a hash of their names. */
import { ablate } from "./ablation.ts";

const pictures = /\.(?:png|jpe?g|webp|gif|bmp|tiff?)$/i;

async function filesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) found.push(...await filesBelow(`${folder}/${name}`));
    else if (pictures.test(name)) found.push(`${folder}/${name}`);
  }
  return found;
}

async function digest(text: string): Promise<string> {
  const bytes = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return new Uint8Array(bytes).toHex();
}

await ablate("Unique images", async ({ images, out }) => {
  const files = await Promise.all(
    (await filesBelow(images)).map(async (file) => [await digest(file.slice(images.length)), file] as const),
  );
  files.sort();
  const cells = [];
  for (const share of [1 / 8, 1 / 4, 1 / 2]) {
    const count = Math.ceil(files.length * share), folder = `${out}/images-${count}`;
    await Deno.mkdir(folder, { recursive: true });
    for (const [name, file] of files.slice(0, count)) {
      const link = `${folder}/${name}${file.slice(file.lastIndexOf("."))}`;
      await Deno.symlink(await Deno.realPath(file), link).catch((error: unknown) => {
        if (!(error instanceof Deno.errors.AlreadyExists)) throw error;
      });
    }
    cells.push({ name: `${count}`, recipe: {}, images: folder });
  }
  return [...cells, { name: `${files.length}`, recipe: {} }];
});
