/** Promises that hold for every seed; a failing one replays with `deno task simulate --seeds 1 --from SEED --trace`. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { simulate } from "./cluster.ts";

const calm = await simulate(0, { blowsMax: 0 });

Deno.test("a cluster in peace takes every step once, and the same seed gives the same trace", async () => {
  assertEquals([calm.faults, calm.restarts, calm.losses.length], [[], 0, 8]);
  const [one, again, other] = [await simulate(5), await simulate(5), await simulate(6)];
  assertEquals(one.trace, again.trace);
  assertEquals(one.lines, again.lines);
  assertNotEquals(one.trace, other.trace);
});

Deno.test("over 1,000 seeds of kills, freezes, cut links and disk errors every run ends with the weights of peace", async () => {
  let blows = 0, restarts = 0, epochs = 0, adoptions = 0;
  const kinds = new Set<string>();
  for (let seed = 1; seed <= 1_000; seed++) {
    const found = await simulate(seed);
    assertEquals([found.faults, found.digest], [[], calm.digest], `seed ${seed}: ${found.blows.join(", ")}`);
    assertEquals([found.losses, found.weights], [calm.losses, calm.weights], `seed ${seed}: ${found.blows.join(", ")}`);
    // No loss is found by a deadline of a step or a checkpoint alone.
    assert(found.virtualMs < 25_000, `seed ${seed} took ${found.virtualMs} ms: ${found.blows.join(", ")}`);
    blows += found.blows.length;
    restarts += found.restarts;
    epochs += found.epochs;
    adoptions += found.adoptions;
    for (const blow of found.blows) kinds.add(blow.split(" ").slice(0, 2).join(" "));
  }
  const counts = `${blows} blows, ${epochs} epochs, ${restarts} restarts of all, ${adoptions} controllers`;
  assert(blows > 1_500 && epochs > 1_000 && restarts > 50 && adoptions > 80, counts);
  for (
    const kind of [
      "kill host-0",
      "kill all",
      "kill checkpointer",
      "kill controller",
      "freeze trainer-0",
      "freeze host-0",
      "cut sync-0",
      "ENOSPC on",
      "host-b joins",
      "kill host-b",
    ]
  ) {
    assert(kinds.has(kind), `${kind} never happened`);
  }
});

Deno.test("a trainer that computes something wrong is found with the next step, and the run ends with the weights of peace", async () => {
  const found = await simulate(1, { blowsMax: 0, wrongOnce: true });
  // Of two trainers nobody can tell who is right: all start anew from the checkpoint.
  assertEquals([found.faults, found.digest, found.restarts], [[], calm.digest, 1]);
  assert(found.lines.some((line) => line.includes("trainers differ in their weights before step")));
});
