/** Architecture: a RegNetY, the same without squeeze-and-excitation, a ResNet and a vision transformer of like size. */
import { ablate } from "./ablation.ts";

const stages = { stemWidth: 16, widths: [32, 64, 128], depths: [1, 1, 1] };

await ablate("Architecture", ({ side }) => [
  { name: "RegNetY", recipe: { model: { ...stages, groupWidth: 8 } } },
  { name: "RegNetX", recipe: { model: { ...stages, groupWidth: 8, seRatio: 0 } } },
  { name: "ResNet", recipe: { model: { ...stages, family: "resnet", bottleneck: 4 } } },
  {
    name: "ViT",
    recipe: { model: { family: "vit", widths: [64], depths: [2], patch: side / 6, imageSize: side, heads: 2 } },
  },
]);
