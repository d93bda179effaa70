import { assertEquals } from "@std/assert";
import { ManualClock } from "../../../actors/runtime/clock.ts";

Deno.test("ManualClock runs timers in order of time, then of creation, each at its own time", () => {
  const clock = new ManualClock();
  const seen: [string, number][] = [];
  const note = (name: string) => () => seen.push([name, clock.now()]);
  clock.after(20, note("c"));
  clock.after(10, note("a"));
  clock.after(10, note("b"));
  clock.after(30, note("late"));
  clock.advance(25);
  assertEquals(seen, [["a", 10], ["b", 10], ["c", 20]]);
  assertEquals([clock.now(), clock.pending], [25, 1]);
});

Deno.test("ManualClock runs timers that timers start, when they are due, and not those cancelled", () => {
  const clock = new ManualClock();
  const seen: number[] = [];
  const cancel = clock.after(15, () => seen.push(-1));
  const tick = () => {
    seen.push(clock.now());
    if (clock.now() === 10) cancel();
    clock.after(10, tick);
  };
  clock.after(10, tick);
  clock.advance(35);
  assertEquals(seen, [10, 20, 30]);
});
