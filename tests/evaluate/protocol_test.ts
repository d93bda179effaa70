import { assert, assertEquals, assertThrows } from "@std/assert";
import { planProtocol } from "../../evaluate/protocol.ts";

function source(names: readonly string[]) {
  return { size: names.length, name: (i: number) => names[i] };
}

const emoji = source([
  "noto/animals/cat.png",
  "noto/animals/dog.png",
  "noto/food/pear.png",
  "noto/food/only-noto.png",
  "twemoji/animals/cat.png",
  "twemoji/animals/dog.png",
  "twemoji/flags/only-here.png",
  "twemoji/food/pear.png",
]);

Deno.test("two sets with the same categories: learn on one, test on the other, pair by name", () => {
  const plan = planProtocol(emoji);
  assertEquals([plan.kind, plan.train.name, plan.test.name], ["sets", "twemoji", "noto"]);
  assertEquals(plan.classes, ["animals", "food"]);
  assertEquals([plan.train.ids, plan.test.ids], [[4, 5, 7], [0, 1, 2, 3]]);
  assertEquals([0, 2, 5, 7].map((id) => plan.labelOf(id)), [0, 1, 0, 1]);
  assertEquals([...plan.pairs], [[0, 4], [1, 5], [2, 7]]);
});

Deno.test("a name that a set has twice has no partner", () => {
  const names = [
    "a/x/1.png",
    "a/x/2.png",
    "a/y/1.png",
    "a/y/3.png",
    "b/x/1.png",
    "b/x/2.png",
    "b/y/3.png",
    "b/y/4.png",
  ];
  const { train, pairs } = planProtocol(source(names));
  assertEquals(train.name, "a");
  assertEquals([...pairs], [[5, 1], [6, 3]]);
});

Deno.test("sets whose names do not match have no pairs", () => {
  const names = ["train", "val"].flatMap((set) =>
    ["cat", "dog"].flatMap((category) => [1, 2, 3].map((i) => `${set}/${category}/${set}${i}.jpg`))
  );
  const plan = planProtocol(source(names));
  assertEquals([plan.kind, plan.train.name, plan.pairs.size], ["sets", "train", 0]);
});

function folder(perClass: number): string[] {
  return ["cat", "dog", "eel"].flatMap((c) => Array.from({ length: perClass }, (_, i) => `${c}/${i}.jpg`));
}

Deno.test("one folder per category is split in every category, without overlap", () => {
  const plan = planProtocol(source(folder(50)));
  assertEquals([plan.kind, plan.classes, plan.pairs.size], ["split", ["cat", "dog", "eel"], 0]);
  assertEquals([...plan.train.ids, ...plan.test.ids].toSorted((a, b) => a - b), folder(50).map((_, i) => i));
  for (const label of [0, 1, 2]) assertEquals(plan.test.ids.filter((id) => plan.labelOf(id) === label).length, 10);
});

Deno.test("the split depends on the names alone, not on their order", () => {
  const names = folder(20), turned = names.toReversed();
  const tested = (list: string[]) => planProtocol(source(list)).test.ids.map((id) => list[id]).toSorted();
  assertEquals(tested(turned), tested(names));
  assert(tested(names).join() !== names.slice(0, 12).join());
});

Deno.test("images without labels end in one clear error", () => {
  assertThrows(
    () => planProtocol(source(["1.jpg", "2.jpg"]), { name: "/photos" }),
    Error,
    'Cannot evaluate on "/photos": its images must lie in one sub-folder per category, at least 2, found 0 sub-folders ' +
      "with images and 2 images outside of them; put",
  );
  assertThrows(() => planProtocol(source(["a/1.jpg", "a/2.jpg"])), Error, "found 1 sub-folders");
  assertThrows(() => planProtocol(source([...folder(2), "loose.jpg"])), Error, "1 images outside");
  assertThrows(() => planProtocol(source(["a/1.jpg", "b/1.jpg"])), Error, "at least 2 images, found at most 1");
});

Deno.test("asking for the label of an image outside the evaluation is refused", () => {
  assertThrows(() => planProtocol(emoji).labelOf(6), RangeError, "Cannot label image 6");
});
