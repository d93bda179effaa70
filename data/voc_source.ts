/**
 * PASCAL VOC's classification sets (Everingham et al., 2010): `JPEGImages/`, `ImageSets/Main/{train,val,trainval,test}.txt`
 * with one image id a line, and what an image shows from `ImageSets/Main/<class>_<part>.txt` (1 shown, -1 not, 0
 * difficult), or, where those are absent, from `Annotations/<id>.xml`. A class whose objects in an image are all marked
 * difficult is difficult there. It knows no evaluation.
 */
import { XMLParser } from "fast-xml-parser";
import { readImageFile } from "./image_file.ts";
import { LabelError, type LabelledImages, type Split } from "./labelled.ts";

/** What an image shows, by class name. */
interface Shown {
  readonly shown: Set<string>;
  readonly difficult: Set<string>;
}

/** Whether a folder has the form of PASCAL VOC. */
export async function isVocFolder(path: string): Promise<boolean> {
  return await Deno.stat(`${path}/ImageSets/Main`).then(({ isDirectory }) => isDirectory, () => false);
}

async function readIds(file: string): Promise<string[] | undefined> {
  const text = await Deno.readTextFile(file).catch(() => undefined);
  return text?.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
}

async function readParts(path: string): Promise<{ id: string; part: string; split: Split }[]> {
  const read = async (part: string, split: Split) => {
    const ids = await readIds(`${path}/ImageSets/Main/${part}.txt`);
    return ids?.map((id) => ({ id, part, split }));
  };
  const train = await read("trainval", "train") ?? await read("train", "train");
  const test = await read("test", "test") ?? await read("val", "test");
  if (train === undefined || test === undefined) {
    throw new LabelError(
      path,
      `ImageSets/Main must hold trainval.txt and test.txt (or train.txt and val.txt), ` +
        `${train === undefined ? "the first" : "the second"} is missing`,
    );
  }
  const trained = new Set(train.map(({ id }) => id));
  const twice = test.find(({ id }) => trained.has(id));
  if (twice !== undefined) {
    throw new LabelError(path, `image ${twice.id} is in ${train[0].part}.txt and in ${twice.part}.txt`);
  }
  return [...train, ...test];
}

/** From `<class>_<part>.txt`; `undefined` where the folder has none. */
async function readClassFiles(path: string, parts: readonly string[]): Promise<Map<string, Shown> | undefined> {
  const images = new Map<string, Shown>();
  let files = 0;
  for await (const { name } of Deno.readDir(`${path}/ImageSets/Main`)) {
    const [, category, part] = /^(.+)_([a-z]+)\.txt$/.exec(name) ?? [];
    if (category === undefined || !parts.includes(part)) continue;
    files++;
    for (const line of await readIds(`${path}/ImageSets/Main/${name}`) ?? []) {
      const [id, mark] = line.split(/\s+/);
      if (!["-1", "0", "1"].includes(mark)) {
        throw new LabelError(`${path}/ImageSets/Main/${name}`, `a line must be an id and 1, 0 or -1, found "${line}"`);
      }
      const entry = images.get(id) ?? { shown: new Set<string>(), difficult: new Set<string>() };
      images.set(id, entry);
      if (mark === "1") entry.shown.add(category);
      if (mark === "0") entry.difficult.add(category);
    }
  }
  return files === 0 ? undefined : images;
}

const parser = new XMLParser({ isArray: (name) => name === "object", parseTagValue: false, processEntities: false });

interface Annotated {
  readonly annotation?: { readonly object?: readonly { readonly name?: unknown; readonly difficult?: unknown }[] };
}

/** From `Annotations/<id>.xml`. */
async function readAnnotation(path: string, id: string): Promise<Shown> {
  const file = `${path}/Annotations/${id}.xml`;
  const text = await Deno.readTextFile(file).catch(() => {
    throw new LabelError(path, `Annotations/${id}.xml is missing`);
  });
  const parsed: Annotated = parser.parse(text);
  if (typeof parsed.annotation !== "object") throw new LabelError(file, "it has no <annotation>");
  const shown = new Set<string>(), difficult = new Set<string>();
  for (const object of parsed.annotation.object ?? []) {
    if (typeof object.name !== "string") throw new LabelError(file, "an <object> has no <name>");
    (object.difficult === "1" ? difficult : shown).add(object.name);
  }
  for (const name of shown) difficult.delete(name);
  return { shown, difficult };
}

/**
 * Opens a folder such as `VOCdevkit/VOC2007`; trainval trains and test tests.
 *
 * @throws {LabelError} when lists or annotations are missing or malformed
 */
export async function openVoc(path: string): Promise<LabelledImages> {
  const images = await readParts(path);
  const listed = await readClassFiles(path, [...new Set(images.map(({ part }) => part))]);
  const marks: Shown[] = [];
  for (const { id } of images) {
    const known = listed === undefined ? await readAnnotation(path, id) : listed.get(id);
    if (known === undefined) throw new LabelError(path, `image ${id} is in no file <class>_<part>.txt`);
    marks.push(known);
  }
  const classes = [...new Set(marks.flatMap(({ shown, difficult }) => [...shown, ...difficult]))].sort();
  if (classes.length === 0) throw new LabelError(path, "no image shows a class");
  const numbers = (names: Set<string>) => [...names].map((name) => classes.indexOf(name)).sort((a, b) => a - b);
  const labels = marks.map(({ shown }) => numbers(shown)), difficult = marks.map((mark) => numbers(mark.difficult));
  return {
    size: images.length,
    classes,
    labelling: "multi",
    name: (i) => `JPEGImages/${images[i].id}.jpg`,
    labelsOf: (i) => labels[i],
    difficultOf: (i) => difficult[i],
    splitOf: (i) => images[i].split,
    read: (i) => readImageFile(`${path}/JPEGImages/${images[i].id}.jpg`, { name: `JPEGImages/${images[i].id}.jpg` }),
  };
}
