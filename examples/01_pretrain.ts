/**
 * Pretrains a small network on a folder of images and says how it went:
 *
 *     deno run -A examples/01_pretrain.ts [IMAGES] [RUNS] [PRESET] [STEPS]
 *
 * Without IMAGES it uses the quickstart's, and then judges the network by their labels.
 */
import { evaluateRun, formatReport, pretrain } from "../mod.ts";

const [images, runs = "runs", preset = "quickstart", steps = "100"] = Deno.args;

const { run, digest } = await pretrain({
  preset,
  steps: Number(steps),
  data: { folder: images },
  run: { folder: runs },
});
console.log(`weights ${digest.slice(0, 16)}… in ${run}`);

if (images === undefined) console.log(formatReport(await evaluateRun(run)));
