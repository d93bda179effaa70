/** Method: SwAV, SimCLR and supervised learning of the same network, for as many steps. */
import { ablate } from "./ablation.ts";

await ablate("Method", ({ side }) => {
  const crops = (count: number) => [{ size: side, count, scale: [0.35, 1] as [number, number] }];
  return [
    { name: "SwAV", recipe: {} },
    { name: "SimCLR", recipe: { method: { name: "simclr" }, crops: crops(2), head: { dims: [256, 256, 64] } } },
    { name: "supervised", recipe: { method: { name: "supervised" }, crops: crops(1) } },
  ];
});
