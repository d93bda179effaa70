import { assertEquals, assertThrows } from "@std/assert";
import { LossScale } from "../../optim/loss_scale.ts";

/** The scale after each step; `!` is an overflow. */
function course(scale: LossScale, steps: string): number[] {
  return [...steps].map((step) => {
    scale.after({ overflow: step === "!" });
    return scale.value;
  });
}

Deno.test("the loss scale halves on overflow and doubles after enough clean steps, up to its largest", () => {
  const scale = new LossScale({ start: 8, growthSteps: 3, max: 16 });
  assertEquals(course(scale, "..!..........."), [8, 8, 4, 4, 4, 8, 8, 8, 16, 16, 16, 16, 16, 16]);
  assertEquals(scale.skippedSteps, 1);
});

Deno.test("the loss scale starts at 2^16 and doubles after 2000 clean steps up to 2^24", () => {
  const scale = new LossScale();
  assertEquals(scale.value, 2 ** 16);
  const values = course(scale, ".".repeat(20_000));
  assertEquals([values[1998], values[1999], values[3999], values[19_999]], [2 ** 16, 2 ** 17, 2 ** 18, 2 ** 24]);
});

Deno.test("a loss scale that was saved goes on as the one it was saved from", () => {
  const first = new LossScale({ growthSteps: 4 }), second = new LossScale({ growthSteps: 4 });
  course(first, "!..");
  second.load(first.state());
  assertEquals([second.value, second.cleanSteps, second.skippedSteps], [2 ** 15, 2, 1]);
  assertEquals(course(second, "..!"), course(first, "..!"));
});

Deno.test("gradients that overflow at a loss scale of 1 end the run with the remedy", () => {
  const scale = new LossScale({ start: 2 });
  scale.after({ overflow: true });
  assertEquals(scale.value, 1);
  assertThrows(() => scale.after({ overflow: true }), RangeError, 'set precision to "f32"');
});
