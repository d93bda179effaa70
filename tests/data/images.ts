/** Small images and folders for the tests of the data room. */
import sharp from "sharp";

/** A PNG of one colour. */
export async function flatPng(
  { width, height, colour }: { width: number; height: number; colour: readonly [number, number, number] },
): Promise<Uint8Array> {
  const [r, g, b] = colour;
  return await sharp({ create: { width, height, channels: 3, background: { r, g, b } } }).png().toBuffer();
}

/** Runs `test` with a temporary folder that holds the files, removed afterwards. */
export async function withFolder(
  files: Readonly<Record<string, Uint8Array | string>>,
  test: (path: string) => Promise<void>,
): Promise<void> {
  const path = await Deno.makeTempDir({ prefix: "seer-test-" });
  try {
    for (const [name, content] of Object.entries(files)) {
      const file = `${path}/${name}`;
      await Deno.mkdir(file.slice(0, file.lastIndexOf("/")), { recursive: true });
      await Deno.writeFile(file, typeof content === "string" ? new TextEncoder().encode(content) : content);
    }
    await test(path);
  } finally {
    await Deno.remove(path, { recursive: true });
  }
}
