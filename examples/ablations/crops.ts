/** Crops: two large ones, and with two or four small ones beside them. */
import { ablate } from "./ablation.ts";

await ablate("Crops", ({ side }) => {
  const large = { size: side, count: 2, scale: [0.35, 1] as [number, number] };
  const small = (count: number) => ({ size: side / 2, count, scale: [0.12, 0.45] as [number, number] });
  return [
    { name: "2", recipe: { crops: [large] } },
    { name: "2 + 2 small", recipe: { crops: [large, small(2)] } },
    { name: "2 + 4 small", recipe: { crops: [large, small(4)] } },
  ];
});
