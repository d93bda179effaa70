import { assert, assertEquals, assertThrows } from "@std/assert";
import { chooseSegments, passesSideBySide, peakActivations, requireSegments } from "../../nn/segments.ts";
import { trunkShape } from "../../nn/trunk_shape.ts";
import type { TrunkSpec } from "../../nn/trunk_spec.ts";

const unitActivations = (spec: TrunkSpec, size: number) => trunkShape(spec).unitActivations(size);

const spec = { stemWidth: 8, widths: [16, 32], depths: [1, 2], groupWidth: 8 };

Deno.test("unitActivations() counts raw outputs of a stem and of blocks", () => {
  const [stem, first, second, third] = unitActivations(spec, 32);
  assertEquals([stem.all, stem.output], [2 * 8 * 256, 8 * 256]);
  // The first 1×1 still has the input's 16×16 pixels; 3×3, last 1×1, shortcut and output have 8×8.
  assertEquals([first.all, first.output], [16 * 256 + 4 * 16 * 64 + 2 * 16 + 2, 16 * 64]);
  assertEquals(second.all, 32 * 64 + 4 * 32 * 16 + 2 * 32 + 4);
  assertEquals(third.all, 32 * 16 + 3 * 32 * 16 + 2 * 32 + 8);
});

const unit = (all: number, output: number) => ({ all, output, gradients: 0 });

Deno.test("peakActivations() follows a step worked by hand", () => {
  const pass = [unit(10, 2), unit(6, 1), unit(4, 1)];
  assertEquals(peakActivations([pass], []), 20);
  // Outputs 2 + 1 + 1 are kept; going back, unit 0 alone needs its 10, unit 1 the output of unit 0 and its 6.
  assertEquals(peakActivations([pass], [[0, 0], [1, 1], [2, 2]]), 10);
  // One segment of all: everything comes back at once.
  assertEquals(peakActivations([pass], [[0, 2]]), 20);
  // A second pass lies beside what the first keeps, and goes back first.
  assertEquals(peakActivations([pass, pass], [[0, 0], [1, 1], [2, 2]]), 4 + 10);
});

Deno.test("chooseSegments() takes the least memory, or the fewest units that fit a budget", () => {
  const pass = unitActivations({ ...spec, depths: [2, 4] }, 64);
  const least = chooseSegments([pass]);
  const peak = peakActivations([pass], least), plain = peakActivations([pass], []);
  assert(peak < 0.7 * plain, `${peak} of ${plain}`);
  const between = (peak + plain) / 2;
  const few = chooseSegments([pass], { budget: between });
  assert(peakActivations([pass], few) <= between && few.length < pass.length);
  assertEquals(chooseSegments([pass], { budget: plain }), []);
  assertEquals(chooseSegments([pass], { budget: 1 }), least);
});

Deno.test("requireSegments() refuses segments that overlap, turn back or leave the network", () => {
  requireSegments([[0, 2], [3, 3], [5, 6]], 7);
  for (const wrong of [[[0, 2], [2, 3]], [[3, 2]], [[0, 7]]] as const) {
    assertThrows(() => requireSegments(wrong, 7), RangeError, "in order, apart, and within 0-6");
  }
});

Deno.test("passesSideBySide() lets units of all passes come and go together", () => {
  const pass = [unit(10, 2), unit(6, 1)];
  const both = passesSideBySide([pass, pass]);
  assertEquals(peakActivations(both, []), 2 * 16);
  // Unit 0 of both comes back at once; in turn the second pass's comes back beside what the first keeps, 2 + 6.
  assertEquals(peakActivations(both, [[0, 0]]), 2 * 10);
  assertEquals(peakActivations([pass, pass], [[0, 0]]), 8 + 10);
});
