import { assertEquals, assertThrows } from "@std/assert";
import { countMacs, countParameters } from "../../nn/count.ts";
import { regnetBlocks, type RegnetName, regnetStages, regnetTable, roundHalfEven } from "../../nn/regnet_spec.ts";

type RegnetYName = Exclude<RegnetName, `regnetx_${string}`>;

/** Widths, depths, trunk parameters, parameters with 1,000 classes, GMAC at 224² and 96². */
const PUBLISHED: Record<RegnetYName, readonly [number[], number[], number, number, number, number]> = {
  "regnety_200mf": [[24, 56, 152, 368], [1, 1, 4, 7], 2_793_996, 3_162_996, 0.2, 0.037],
  "regnety_400mf": [[48, 104, 208, 440], [1, 3, 6, 6], 3_903_144, 4_344_144, 0.402, 0.075],
  "regnety_800mf": [[64, 128, 320, 768], [1, 3, 8, 2], 5_494_168, 6_263_168, 0.797, 0.148],
  "regnety_1.6gf": [[48, 120, 336, 888], [2, 6, 17, 2], 10_313_430, 11_202_430, 1.612, 0.298],
  "regnety_3.2gf": [[72, 216, 576, 1512], [2, 5, 13, 1], 17_923_338, 19_436_338, 3.176, 0.587],
  "regnety_8gf": [[168, 448, 896, 2016], [2, 4, 10, 1], 37_163_068, 39_180_068, 7.963, 1.468],
  "regnety_16gf": [[224, 448, 1232, 3024], [2, 4, 11, 1], 80_565_140, 83_590_140, 15.912, 2.933],
  "regnety_32gf": [[232, 696, 1392, 3712], [2, 5, 12, 1], 141_333_770, 145_046_770, 32.28, 5.944],
  "regnety_64gf": [[328, 984, 1968, 4920], [2, 5, 12, 1], 276_457_786, 281_378_786, 64.07, 11.8],
  "regnety_128gf": [[528, 1056, 2904, 7392], [2, 7, 17, 1], 637_419_894, 644_812_894, 127.52, 23.5],
  "regnety_256gf": [[746, 1492, 4103, 10444], [2, 7, 17, 1], 1_272_156_138, 1_282_601_138, 254.39, 46.87],
  "regnety_10b": [[2020, 4040, 11110, 28280], [2, 7, 17, 1], 9_323_934_872, 9_352_215_872, 1863.3, 343.3],
};

/** Rows where torchvision's rule gives other widths: stage widths, parameters with 1,000 classes. */
const TORCHVISION: Partial<Record<RegnetName, readonly [number[], number]>> = {
  "regnety_800mf": [[64, 144, 320, 784], 6_432_512],
  "regnety_8gf": [[224, 448, 896, 2016], 39_381_472],
};

const names = Object.keys(PUBLISHED) as RegnetYName[];
/** Half a unit of the last digit printed, in GMAC. */
const rounding = (figure: number) => 0.5 * 10 ** -(`${figure}`.split(".")[1]?.length ?? 0) + 0.0005;

for (const name of names) {
  const [widths, depths, trunk, withClasses, macs224, macs96] = PUBLISHED[name];
  Deno.test(`${name} has the published stages and parameter counts under SEER's rule`, () => {
    const spec = regnetStages(regnetTable[name], "seer");
    assertEquals(spec.widths, widths);
    assertEquals(spec.depths, depths);
    assertEquals(countParameters(spec), trunk);
    assertEquals(countParameters(spec, { classes: 1000 }), withClasses);
    for (const [size, published] of [[224, macs224], [96, macs96]]) {
      const macs = countMacs(spec, size, { classes: 1000 }) / 1e9;
      if (Math.abs(macs - published) > rounding(published)) {
        throw new Error(`GMAC at ${size} must be ${published}, they are ${macs}`);
      }
    }
  });
  Deno.test(`${name} has torchvision's stages and parameter counts under torchvision's rule`, () => {
    const [expectedWidths, expected] = TORCHVISION[name] ?? [widths, withClasses];
    const spec = regnetStages(regnetTable[name], "torchvision");
    assertEquals(spec.widths, expectedWidths);
    assertEquals(spec.depths, depths);
    assertEquals(countParameters(spec, { classes: 1000 }), expected);
  });
}

Deno.test("roundHalfEven() rounds 186.5 to 186 and 2777.5 to 2778", () => {
  assertEquals([186.5, 2777.5, 2.4, 2.6, -0.5].map(roundHalfEven), [186, 2778, 2, 3, -0]);
});

Deno.test("squeeze-and-excitation takes its width from the block's input", () => {
  const blocks = regnetBlocks(regnetStages(regnetTable["regnety_256gf"], "seer"));
  assertEquals(blocks.slice(0, 4).map(({ squeezeWidth }) => squeezeWidth), [8, 186, 186, 373]);
});

Deno.test("regnetBlocks() refuses a group width that does not divide a stage", () => {
  assertThrows(() => regnetBlocks({ widths: [30], depths: [1], groupWidth: 8 }), RangeError, "8 does not divide 30");
});
