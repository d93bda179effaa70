/** Capacity: three sizes of RegNetY. */
import { ablate } from "./ablation.ts";

const size = (width: number) => ({
  model: { stemWidth: width, widths: [2 * width, 4 * width, 8 * width], depths: [1, 1, 1], groupWidth: 8 },
});

await ablate("Capacity", () => [8, 16, 32].map((width) => ({ name: `${8 * width} wide`, recipe: size(width) })));
