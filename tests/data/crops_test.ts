import { assert, assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { centreCropParameters, cropParameters, randomResizedCropBox, roundHalfEven } from "../../data/crops.ts";

const spec = { size: 96, scale: [0.05, 0.14] as const };

Deno.test("a crop is a function of seed, step, sample and crop, and lies inside the image", () => {
  const key = fc.record({
    seed: fc.nat(),
    step: fc.nat(),
    sample: fc.nat(),
    crop: fc.nat({ max: 10 }),
    width: fc.integer({ min: 1, max: 900 }),
    height: fc.integer({ min: 1, max: 900 }),
  });
  fc.assert(fc.property(key, (key) => {
    const crop = cropParameters(key, spec);
    assertEquals(crop, cropParameters(key, spec));
    assert(crop.top >= 0 && crop.left >= 0 && crop.width >= 1 && crop.height >= 1);
    assert(crop.top + crop.height <= key.height && crop.left + crop.width <= key.width);
    assertEquals([...crop.order].sort(), [0, 1, 2, 3]);
  }));
});

/** Replays given numbers in [0, 1) as torchvision's generator would. */
function scripted(...draws: number[]) {
  const next = (): number => {
    const draw = draws.shift();
    if (draw === undefined) throw new Error("more numbers were drawn than expected");
    return draw;
  };
  return {
    uniform: (low = 0, high = 1): number => low + (high - low) * next(),
    integer: (low: number, high: number): number => low + Math.floor((high - low) * next()),
    left: draws,
  };
}

Deno.test("the crop box follows RandomResizedCrop.get_params draw by draw", () => {
  const options = { width: 100, height: 80, scale: [0.2, 1], ratio: [3 / 4, 4 / 3] } as const;
  // area 8000 · 0.6 = 4800, shape 1: both sides round(69.28); 80 − 69 + 1 = 12 tops, 100 − 69 + 1 = 32 lefts.
  const stream = scripted(0.5, 0.5, 0.5, 0.25);
  assertEquals(randomResizedCropBox(stream, options), { top: 6, left: 8, height: 69, width: 69 });
  assertEquals(stream.left.length, 0);
  // The first try (whole area, shape 3/4: 77 × 103) is too high, the second fits.
  assertEquals(randomResizedCropBox(scripted(0.9999999, 0, 0.5, 0.5, 0, 0), options).height, 69);
});

Deno.test("the crop box falls back to the largest central box after ten tries", () => {
  const never = Array.from({ length: 20 }, () => 0.5);
  const box = (width: number, height: number) =>
    randomResizedCropBox(scripted(...never), { width, height, scale: [1, 1], ratio: [3 / 4, 4 / 3] });
  assertEquals(box(300, 100), { top: 0, left: 83, height: 100, width: 133 });
  assertEquals(box(100, 300), { top: 83, left: 0, height: 133, width: 100 });
  assertEquals(box(110, 100), { top: 0, left: 0, height: 100, width: 110 });
});

Deno.test("shares of area, flips, jitter, gray and blur follow the recipe", () => {
  const count = 3000;
  const crops = Array.from(
    { length: count },
    (_, sample) => cropParameters({ seed: 1, step: 0, sample, crop: 0, width: 500, height: 400 }, spec),
  );
  const share = (test: (crop: typeof crops[number]) => boolean): number => crops.filter(test).length / count;
  assertAlmostEquals(share((crop) => crop.flip), 0.5, 0.04);
  assertAlmostEquals(share((crop) => crop.jitter), 0.8, 0.04);
  assertAlmostEquals(share((crop) => crop.gray), 0.2, 0.04);
  assertAlmostEquals(share((crop) => crop.blurSigma !== null), 0.5, 0.04);
  assertAlmostEquals(share((crop) => crop.order[0] === 3), 0.25, 0.04);
  for (const crop of crops) {
    const area = (crop.width * crop.height) / 200_000;
    assert(area > 0.047 && area < 0.145, `area ${area}`);
    assert(crop.width / crop.height > 0.72 && crop.width / crop.height < 1.38);
    for (const factor of [crop.brightness, crop.contrast, crop.saturation]) assert(factor >= 0.2 && factor <= 1.8);
    assert(Math.abs(crop.hue) <= 0.2);
    assert(crop.blurSigma === null || (crop.blurSigma >= 0.1 && crop.blurSigma <= 2));
  }
  const mean = crops.reduce((sum, crop) => sum + crop.width * crop.height, 0) / count / 200_000;
  assertAlmostEquals(mean, 0.095, 0.003);
});

Deno.test("changing one option leaves the other numbers as they were", () => {
  const key = { seed: 1, step: 2, sample: 3, crop: 4, width: 200, height: 300 };
  const plain = cropParameters(key, spec);
  const sharp = cropParameters(key, spec, { blurProbability: 0, hue: 0 });
  assertEquals(sharp, { ...plain, blurSigma: null, hue: sharp.hue });
  assertAlmostEquals(sharp.hue, 0);
});

Deno.test("the evaluation crop is Resize then CenterCrop, or the whole image", () => {
  const crop = centreCropParameters({ width: 500, height: 375 }, { size: 224, resize: 256 });
  // int(256 · 500 / 375) = 341; round(117 / 2) rounds half to even
  assertEquals(crop.resized, { top: 16, left: 58, height: 256, width: 341 });
  assertEquals([crop.top, crop.left, crop.height, crop.width], [0, 0, 375, 500]);
  assertEquals(centreCropParameters({ width: 50, height: 40 }, { size: 48 }).resized, undefined);
  assertThrows(
    () => centreCropParameters({ width: 50, height: 40 }, { size: 48, resize: 32 }),
    RangeError,
    "the shorter side is resized to 32 only",
  );
});

Deno.test("roundHalfEven() rounds as Python", () => {
  assertEquals([0.5, 1.5, 2.5, 58.5, 59.5, 2.4999, 2.51].map(roundHalfEven), [0, 2, 2, 58, 60, 2, 3]);
});
