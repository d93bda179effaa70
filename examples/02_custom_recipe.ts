/**
 * A recipe of one's own: other crops, another network, SEER's optimiser, a callback at every step that ends the run when
 * the prototypes collapse:
 *
 *     deno run -A examples/02_custom_recipe.ts [IMAGES] [RUNS] [STEPS] [SIDE]
 */
import { pretrain, type Recipe } from "../mod.ts";

const [images, runs = "runs", total = "300", side = "48"] = Deno.args;
const [steps, large] = [Number(total), Number(side)];
const warmupSteps = Math.floor(steps / 10);

const recipe: Recipe = {
  seed: 7,
  model: { stemWidth: 16, widths: [24, 48, 96], depths: [1, 1, 2], groupWidth: 8 },
  head: { dims: [128, 64], batchNorm: true },
  prototypes: { count: 60, frozenSteps: warmupSteps },
  // Two views whose assignments are predicted, three small ones that only predict.
  crops: [
    { size: large, count: 2, scale: [0.2, 1] },
    { size: large / 2, count: 3, scale: [0.05, 0.2] },
  ],
  augmentation: { blurProbability: 0.2, hue: 0.1 },
  optimizer: { name: "larc", momentum: 0.9, weightDecay: 1e-5 },
  schedule: { name: "cosine", learningRate: 1.2, warmupSteps, warmupStart: 0.1 },
  replicas: 2,
  batchPerReplica: 8,
  steps,
  data: { folder: images },
  cluster: { trainers: 2 },
  checkpoint: { everySteps: 50 },
  run: { folder: runs },
};

const collapse = new AbortController();
let lowest = Infinity;

const result = await pretrain(recipe, {
  quiet: true,
  signal: collapse.signal,
  onStep(record) {
    lowest = Math.min(lowest, record.loss);
    const { step, loss, prototypePerplexity, learningRate } = record;
    console.log(
      `step ${step + 1}/${steps}  loss ${loss.toFixed(4)}  prototypes in use ${prototypePerplexity.toFixed(1)}  ` +
        `lr ${learningRate.toFixed(3)}`,
    );
    if (prototypePerplexity < 2) collapse.abort();
  },
});
console.log(`${result.outcome} after ${result.step} steps, lowest loss ${lowest.toFixed(4)}: ${result.run}`);
