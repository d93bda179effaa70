/**
 * Runs clusters in virtual time, one a seed, and prints the seeds whose run broke a promise:
 * `deno task simulate --seeds 1000 --from 1`. With `--trace` it prints all that happened, for a seed that failed.
 */
import { parseArgs } from "@std/cli/parse-args";
import { simulate } from "../tests/simulation/cluster.ts";

const args = parseArgs(Deno.args, { string: ["seeds", "from"], boolean: ["trace"] });
const [seeds, from] = [Number(args.seeds ?? 1_000), Number(args.from ?? 1)];
if (![seeds, from].every((count) => Number.isInteger(count) && count >= 0)) {
  console.error("error: simulate takes --seeds NUMBER, --from NUMBER and --trace");
  Deno.exit(2);
}
const calm = await simulate(0, { blowsMax: 0 });
const start = performance.now();
/** A run that takes longer has waited for a deadline. */
const slowMs = 25_000;
let slow = 0, failed = 0, blows = 0, restarts = 0, epochs = 0, adoptions = 0;
for (let seed = from; seed < from + seeds; seed++) {
  const found = await simulate(seed);
  if (args.trace) console.log(found.lines.join("\n"));
  const same = found.digest === calm.digest && found.losses.every((loss, step) => Object.is(loss, calm.losses[step])) &&
    found.weights.every((weights, step) => weights === calm.weights[step]);
  blows += found.blows.length;
  restarts += found.restarts;
  epochs += found.epochs;
  adoptions += found.adoptions;
  if (found.virtualMs > slowMs) slow++;
  if (args.trace !== true && found.virtualMs > slowMs) {
    console.log(`seed ${seed} took ${found.virtualMs.toFixed(0)} virtual ms`);
  }
  if (same && found.faults.length === 0) continue;
  failed++;
  console.log(
    `seed ${seed}: ${[...found.faults, ...same ? [] : ["other weights"]].join("; ")} (${found.blows.join(", ")})`,
  );
}
const seconds = (performance.now() - start) / 1000;
console.log(
  `${seeds} seeds, ${blows} blows, ${epochs} membership epochs, ${adoptions} controllers taken over from, ${restarts} restarts of all, ${slow} slow, ${failed} failed; ${
    seconds.toFixed(1)
  } s`,
);
Deno.exit(failed === 0 ? 0 : 1);
