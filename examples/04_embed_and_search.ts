/**
 * Turns every image of a folder into features by a run's trunk, and prints the nearest neighbours of some of them:
 *
 *     deno run -A examples/04_embed_and_search.ts RUN IMAGES [QUERIES]
 */
import { nearestNeighbours, openTrunk } from "../mod.ts";

const [run, folder, queries = "5"] = Deno.args;
if (folder === undefined) throw new TypeError("pass a run's folder and a folder of images: RUN IMAGES");

/** Image files below `path`. */
async function listImages(path: string): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(path)) {
    if (isDirectory) found.push(...await listImages(`${path}/${name}`));
    else if (/\.(png|jpe?g|webp|avif)$/i.test(name)) found.push(`${path}/${name}`);
  }
  return found.sort();
}

const files = await listImages(folder);
await using trunk = await openTrunk(run);
const features = await trunk.embed(files);
console.log(`${features.rows} images, ${features.columns} numbers each, seen at ${trunk.size} pixels`);

const neighbours = await nearestNeighbours(features, features, { count: 3, excludeSelf: true });
const every = Math.max(1, Math.floor(files.length / Number(queries)));
for (let query = 0; query < files.length; query += every) {
  const found = neighbours[query].map(({ index, similarity }) => `${files[index]} (${similarity.toFixed(3)})`);
  console.log(`${files[query]}\n  ${found.join("\n  ")}`);
}
