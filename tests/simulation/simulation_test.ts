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
  let blows = 0, restarts = 0, moves = 0;
  const kinds = new Set<string>();
  for (let seed = 1; seed <= 1_000; seed++) {
    const found = await simulate(seed);
    assertEquals([found.faults, found.digest], [[], calm.digest], `seed ${seed}: ${found.blows.join(", ")}`);
    assertEquals(found.losses, calm.losses, `seed ${seed}: ${found.blows.join(", ")}`);
    blows += found.blows.length;
    restarts += found.restarts;
    moves += found.lines.filter((line) => line.endsWith("event moving")).length;
    for (const blow of found.blows) kinds.add(blow.split(" ").slice(0, 2).join(" "));
  }
  assert(blows > 1_000 && restarts > 500 && moves > 100, `${blows} blows, ${restarts} restarts, ${moves} moves`);
  for (
    const kind of [
      "kill host-0",
      "kill checkpointer",
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

Deno.test("a trainer that computes something wrong is found, and the run ends with the weights of peace all the same", async () => {
  const found = await simulate(1, { blowsMax: 0, wrongOnce: true });
  // Found by the digests of the next checkpoint, and once more when the step, taken again, gives another loss.
  assertEquals([found.digest, found.restarts], [calm.digest, 2]);
  for (const text of ["Trainers differ in their weights before step", "taken again, gave replica 0 the loss"]) {
    assert(found.lines.some((line) => line.includes(text)), text);
  }
  assertEquals(found.faults.map((fault) => fault.replace(/\d.*/, "")), ["step "]);
});
