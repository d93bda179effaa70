/** Assignment: rounds of Sinkhorn's normalisation, and how sharp it is. */
import { ablate } from "./ablation.ts";

await ablate("Sinkhorn", () => [
  ...[1, 3, 10].map((iterations) => ({
    name: `${iterations} rounds`,
    recipe: { sinkhorn: { iterations, epsilon: 0.02 } },
  })),
  ...[0.01, 0.05].map((epsilon) => ({ name: `epsilon ${epsilon}`, recipe: { sinkhorn: { iterations: 3, epsilon } } })),
]);
