/**
 * Few labels: which training images a low-shot protocol learns from, drawn class by class, and the list of their names that
 * makes a draw reusable. It knows no training.
 */
import type { ImageSource } from "../data/source.ts";
import { hashName } from "./name_hash.ts";
import type { Protocol } from "./protocol.ts";

/** How few: a share of each class, or a number of images of each class. */
export type LowShot = { readonly share: number } | { readonly perClass: number };

/**
 * Training images of a draw, at least one of each class. A draw depends on the images' names and the seed alone, and a
 * larger share contains a smaller one.
 *
 * @throws RangeError when the share is not within (0, 1], or a class has fewer images than asked for
 */
export function lowShotIds(
  source: Pick<ImageSource, "name">,
  protocol: Protocol,
  { seed = 0, ...few }: LowShot & { readonly seed?: number },
): number[] {
  if ("share" in few && !(few.share > 0 && few.share <= 1)) {
    throw new RangeError(`Cannot draw few images: the share must be more than 0 and at most 1, found ${few.share}`);
  }
  if ("perClass" in few && !(Number.isInteger(few.perClass) && few.perClass >= 1)) {
    throw new RangeError(`Cannot draw few images: the number per class must be from 1, found ${few.perClass}`);
  }
  const drawn: number[] = [];
  for (const [label, ids] of Map.groupBy(protocol.train.ids, (id) => protocol.labelOf(id))) {
    const wanted = "share" in few ? Math.max(1, Math.round(few.share * ids.length)) : few.perClass;
    if (wanted > ids.length) {
      throw new RangeError(
        `Cannot draw ${wanted} images per class: class "${protocol.classes[label]}" has ${ids.length}`,
      );
    }
    const hashed = ids.map((id) => ({ id, hash: hashName(`${seed}/${source.name(id)}`) }));
    hashed.sort((a, b) => a.hash - b.hash || a.id - b.id);
    drawn.push(...hashed.slice(0, wanted).map(({ id }) => id));
  }
  return drawn.sort((a, b) => a - b);
}

/** A draw as text: one name a line. */
export function lowShotList(source: Pick<ImageSource, "name">, ids: readonly number[]): string {
  return ids.map((id) => `${source.name(id)}\n`).join("");
}

/**
 * The training images that a list names.
 *
 * @throws RangeError when a name is not a training image's, or a class has none
 */
export function readLowShotList(text: string, source: Pick<ImageSource, "name">, protocol: Protocol): number[] {
  const byName = new Map(protocol.train.ids.map((id) => [source.name(id), id]));
  const names = [...new Set(text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== ""))];
  const ids = names.map((name) => {
    const id = byName.get(name);
    if (id === undefined) throw new RangeError(`Cannot use the list: "${name}" is no training image of this set`);
    return id;
  });
  const shown = new Set(ids.map((id) => protocol.labelOf(id)));
  const missing = protocol.classes.find((_, label) => !shown.has(label));
  if (missing !== undefined) throw new RangeError(`Cannot use the list: it names no image of class "${missing}"`);
  return ids.sort((a, b) => a - b);
}
