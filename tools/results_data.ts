/**
 * Writes the image sets of docs/results.md as `OUT/NAME/{train,test}/CLASS/*.png`: the quickstart's emoji (Twemoji trains,
 * Noto tests), Fashion-MNIST's first 10,000 training and test images, and the stamps of Tux Paint with desktop wallpapers,
 * a fifth of each class tested. The last two are Debian's packages `dataset-fashion-mnist`, `tuxpaint-stamps-default`,
 * `gnome-backgrounds` and `mate-backgrounds`, unpacked in one folder: `dpkg -x PACKAGE.deb FOLDER`.
 *
 * Use: `deno run -A tools/results_data.ts FOLDER OUT`
 */
import { basename, extname } from "node:path";
import { gunzipSync } from "node:zlib";
import sharp from "sharp";
import { sha256Hex } from "../checkpoint/manifest.ts";
import { renderEmoji } from "../setup/emoji.ts";

const fashionClasses = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"];
const fashionImages = 10_000;
const sideMax = 128;
/** Too few images to train and test on. */
const imagesMin = 10;

const [packages, out] = Deno.args;
if (out === undefined) {
  console.error("error: tools/results_data.ts needs two folders: the unpacked packages, and where the sets go");
  Deno.exit(2);
}

async function copy(from: string, to: string): Promise<void> {
  await Deno.mkdir(to, { recursive: true });
  for await (const entry of Deno.readDir(from)) {
    if (entry.isDirectory) await copy(`${from}/${entry.name}`, `${to}/${entry.name}`);
    else await Deno.copyFile(`${from}/${entry.name}`, `${to}/${entry.name}`);
  }
}

async function writeFashion(folder: string): Promise<void> {
  const read = async (name: string) => gunzipSync(await Deno.readFile(`${folder}/${name}-ubyte.gz`));
  for (const [part, prefix] of [["train", "train"], ["test", "t10k"]] as const) {
    const [images, labels] = await Promise.all([read(`${prefix}-images-idx3`), read(`${prefix}-labels-idx1`)]);
    for (const name of fashionClasses) await Deno.mkdir(`${out}/fashion/${part}/${name}`, { recursive: true });
    for (let index = 0; index < fashionImages; index++) {
      const pixels = images.subarray(16 + index * 784, 16 + (index + 1) * 784);
      const file = `${out}/fashion/${part}/${fashionClasses[labels[8 + index]]}/${`${index}`.padStart(5, "0")}.png`;
      await sharp(pixels, { raw: { width: 28, height: 28, channels: 1 } }).png().toFile(file);
    }
  }
}

async function imagesBelow(folder: string): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) found.push(...await imagesBelow(path));
    else if (/^\.(?:png|jpe?g|webp)$/i.test(extname(path))) found.push(path);
  }
  return found.sort();
}

async function writePhotographs(share: string): Promise<void> {
  const classes = new Map<string, string[]>();
  for await (const { name } of Deno.readDir(`${share}/tuxpaint/stamps`)) {
    classes.set(name, await imagesBelow(`${share}/tuxpaint/stamps/${name}`));
  }
  classes.set("wallpapers", await imagesBelow(`${share}/backgrounds`));
  for (const [name, files] of classes) {
    if (files.length < imagesMin) continue;
    const digests = files.map((file) => [sha256Hex(file.slice(share.length + 1)), file] as const).sort();
    const tested = Math.ceil(files.length / 5);
    for (const [at, [digest, file]] of digests.entries()) {
      const folder = `${out}/photographs/${at < tested ? "test" : "train"}/${name}`;
      await Deno.mkdir(folder, { recursive: true });
      const small = sharp(file, { limitInputPixels: false }).flatten({ background: "white" })
        .resize(sideMax, sideMax, { fit: "inside", withoutEnlargement: true });
      await small.png().toFile(`${folder}/${basename(file, extname(file))}-${digest.slice(0, 6)}.png`);
    }
  }
}

await Deno.mkdir(out);
const { path } = await renderEmoji();
await copy(`${path}/twemoji`, `${out}/emoji/train`);
await copy(`${path}/noto`, `${out}/emoji/test`);
await writeFashion(`${packages}/usr/share/datasets/fashion-mnist`);
await writePhotographs(`${packages}/usr/share`);
console.log(`written: ${out}/emoji, ${out}/fashion, ${out}/photographs`);
