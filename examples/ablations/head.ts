/** Projection head: none but a linear layer, two layers with and without batch norm, three layers. */
import { ablate } from "./ablation.ts";

await ablate("Projection head", () => [
  { name: "linear", recipe: { head: { dims: [64] } } },
  { name: "2 layers", recipe: { head: { dims: [256, 64], batchNorm: false } } },
  { name: "2 layers, BN", recipe: { head: { dims: [256, 64], batchNorm: true } } },
  { name: "3 layers, BN", recipe: { head: { dims: [256, 256, 64], batchNorm: true } } },
]);
