import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import {
  PLATEAU_START,
  plateauHalving,
  type PlateauState,
  warmupConstant,
  warmupCosine,
} from "../../optim/schedule.ts";

const SEER = { start: 0.15, peak: 9.6, warmupSteps: 8000, totalSteps: 122_070 };

Deno.test("warmupCosine() has SEER's key points: 0.15, 9.6 at the end of the warm-up, then 9.5, 0.0096 at the end", () => {
  assertEquals(warmupCosine(0, SEER), 0.15);
  assertAlmostEquals(warmupCosine(4000, SEER), (0.15 + 9.6) / 2, 1e-12);
  assert(warmupCosine(7999, SEER) < 9.6 && warmupCosine(7999, SEER) > 9.59);
  assertAlmostEquals(warmupCosine(8000, SEER), 9.5, 0.01);
  assertAlmostEquals(warmupCosine(122_070, SEER), 0.0096, 1e-12);
  assertEquals(warmupCosine(200_000, SEER), warmupCosine(122_070, SEER));
});

Deno.test("warmupConstant() rises and stays", () => {
  assertEquals([0, 5, 10, 99].map((step) => warmupConstant(step, { start: 1, peak: 3, warmupSteps: 10 })), [
    1,
    2,
    3,
    3,
  ]);
  assertEquals(warmupConstant(0, { peak: 3 }), 3);
});

Deno.test("plateauHalving() halves after `patience` windows without improvement, and not while the loss falls", () => {
  const options = { window: 2, patience: 2, threshold: 0.01 };
  const feed = (state: PlateauState, losses: number[]) =>
    losses.reduce((now, loss) => plateauHalving(now, loss, options), state);
  let state = feed(PLATEAU_START, [10, 10, 9, 9, 8, 8]);
  assertEquals([state.factor, state.best], [1, 8]);
  state = feed(state, [8, 7.99]);
  assertEquals([state.factor, state.stale], [1, 1]);
  state = feed(state, [8.1, 8]);
  assertEquals([state.factor, state.stale, state.best], [0.5, 0, 8]);
  state = feed(state, [7, 7]);
  assertEquals([state.factor, state.best], [0.5, 7]);
  assertEquals(feed(state, Array(400).fill(7)).factor, 0.001);
});

Deno.test("plateauHalving() does not change the state it is given", () => {
  plateauHalving(PLATEAU_START, 5);
  assertEquals(PLATEAU_START, { factor: 1, stale: 0, sum: 0, count: 0 });
});
