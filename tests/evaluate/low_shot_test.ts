import { assert, assertEquals, assertThrows } from "@std/assert";
import { lowShotIds, lowShotList, readLowShotList } from "../../evaluate/low_shot.ts";
import { planProtocol } from "../../evaluate/protocol.ts";

const names = ["train", "val"].flatMap((part) =>
  ["cat", "dog"].flatMap((c) => Array.from({ length: c === "cat" ? 50 : 20 }, (_, i) => `${part}/${c}/${part}${i}.png`))
);
const source = { size: names.length, name: (i: number) => names[i] };
const protocol = planProtocol(source);
const perClass = (ids: readonly number[]) =>
  [0, 1].map((label) => ids.filter((id) => protocol.labelOf(id) === label).length);

Deno.test("a share is drawn from every class of the training images, at least one image of each", () => {
  assertEquals(perClass(lowShotIds(source, protocol, { share: 0.1 })), [5, 2]);
  assertEquals(perClass(lowShotIds(source, protocol, { share: 0.01 })), [1, 1]);
  assert(lowShotIds(source, protocol, { share: 0.5 }).every((id) => names[id].startsWith("train/")));
});

Deno.test("a larger share contains a smaller one, and another seed draws others", () => {
  const small = lowShotIds(source, protocol, { share: 0.1 });
  const large = new Set(lowShotIds(source, protocol, { share: 0.3 }));
  assert(small.every((id) => large.has(id)));
  assertEquals(lowShotIds(source, protocol, { share: 0.1 }), small);
  assert(lowShotIds(source, protocol, { share: 0.1, seed: 1 }).some((id, i) => id !== small[i]));
});

Deno.test("a number per class is exact, and a list of the draw gives it back", () => {
  const ids = lowShotIds(source, protocol, { perClass: 7 });
  assertEquals(perClass(ids), [7, 7]);
  assertEquals(readLowShotList(lowShotList(source, ids), source, protocol), ids);
});

Deno.test("draws and lists that cannot be used end in one clear error", () => {
  const draw = (few: { share: number } | { perClass: number }) => () => lowShotIds(source, protocol, few);
  assertThrows(draw({ perClass: 21 }), RangeError, 'class "dog" has 20');
  assertThrows(draw({ perClass: 0 }), RangeError, "must be from 1, found 0");
  assertThrows(draw({ share: 0 }), RangeError, "at most 1, found 0");
  const read = (text: string) => () => readLowShotList(text, source, protocol);
  assertThrows(read("train/cat/train1.png\nval/dog/val1.png\n"), RangeError, '"val/dog/val1.png" is no training image');
  assertThrows(read("train/cat/train1.png\n"), RangeError, 'no image of class "dog"');
});
