import { assertEquals, assertRejects } from "@std/assert";
import { FollowedSums } from "../../actors/engine/followed_sums.ts";
import { EpochOver } from "../../actors/engine/remote_peers.ts";
import { IncomingState } from "../../actors/engine/incoming_state.ts";
import type { Message } from "../../wire/messages.ts";
import { toWire } from "../../wire/tensor.ts";

const reduced = (epoch: number, value: number): Message => ({
  type: "reduced",
  epoch,
  key: "gradient/3/0@0",
  values: toWire(Float32Array.of(value)),
});

Deno.test("a sum counts in the epoch whose commit asks for it, whichever came first", async () => {
  const sums = new FollowedSums(5_000);
  // The step was begun in epoch 1, and taken again in epoch 2.
  sums.receive(reduced(2, 20));
  sums.receive(reduced(1, 10));
  assertEquals(await sums.take(2, "gradient/3/0@0"), Float32Array.of(20));
  const late = sums.take(3, "gradient/3/0@0");
  sums.receive(reduced(3, 30));
  assertEquals(await late, Float32Array.of(30));
});

Deno.test("with a new epoch what earlier ones brought is void, and waits for it end", async () => {
  const sums = new FollowedSums(5_000);
  const wait = sums.take(1, "gradient/3/0@0");
  sums.begin(2);
  await assertRejects(() => wait, EpochOver, "epoch 2 begins");
  sums.receive(reduced(1, 10));
  await assertRejects(() => new FollowedSums(5).take(1, "x"), Error, "the sum x of the others took longer than 5 ms");
});

const weight = { file: "model", name: "w", tensor: toWire(Float32Array.of(1, 2)) } as const;

Deno.test("a state on its way is bound to the epoch that asked for it, and may come before it is waited for", async () => {
  const state = new IncomingState();
  for (const epoch of [4, 5]) {
    state.receive({ type: "state-part", step: 7, epoch, part: weight });
    state.receive({ type: "state-part", step: 7, epoch, part: weight });
    state.receive({ type: "state-end", step: 7, epoch, parts: 1 });
  }
  state.begin(5);
  await assertRejects(() => state.arrived({ step: 7, epoch: 4 }, 5), Error, "0 of its parts came");
  assertEquals(await state.arrived({ step: 7, epoch: 5 }, 5_000), [weight]);
});

Deno.test("a state that has come whole is given although its epoch ends before whoever waits gets to it", async () => {
  const state = new IncomingState();
  const wait = state.arrived({ step: 7, epoch: 4 }, 5_000);
  state.receive({ type: "state-part", step: 7, epoch: 4, part: weight });
  state.receive({ type: "state-end", step: 7, epoch: 4, parts: 1 });
  state.begin(5);
  assertEquals(await wait, [weight]);
});

Deno.test("a part whose numbers are not those that were sent is refused, naming it", () => {
  const state = new IncomingState();
  let error = "";
  try {
    state.receive({ type: "state-part", step: 7, epoch: 5, part: weight, sha256: "0".repeat(64) });
  } catch (caught) {
    error = String(caught);
  }
  assertEquals(error, 'RangeError: State before step 7: "w" arrived damaged; check this machine\'s memory');
});
