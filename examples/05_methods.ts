/**
 * The same small network by SwAV, SimCLR and from labels, on a folder of classes; the last loss of each, over that of
 * guessing:
 *
 *     deno run -A examples/05_methods.ts IMAGES [RUNS] [PRESET] [STEPS] [SIDE]
 */
import { pretrain, type Recipe } from "../mod.ts";

const [images, runs = "runs", preset = "quickstart", total = "200", side = "48"] = Deno.args;
const crops = (count: number) => [{ size: Number(side), count, scale: [0.35, 1] as const }];

const methods: Readonly<Record<string, Recipe>> = {
  swav: {},
  simclr: { method: { name: "simclr" }, crops: crops(2) },
  supervised: { method: { name: "supervised" }, crops: crops(1) },
};

for (const [name, recipe] of Object.entries(methods)) {
  const { run, steps } = await pretrain({
    preset,
    ...recipe,
    steps: Number(total),
    data: { folder: images },
    run: { folder: runs, name },
  }, { quiet: true });
  const last = steps.at(-1);
  const top1 = last?.top1 === undefined ? "" : `, top-1 ${(100 * last.top1).toFixed(1)}%`;
  console.log(`${name}: loss ${last?.loss.toFixed(3)}, ${last?.lossOverLnK.toFixed(3)} of guessing${top1}: ${run}`);
}
