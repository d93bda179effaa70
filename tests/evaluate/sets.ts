/** Small made-up feature sets. */
import { randomStream } from "../../data/random.ts";
import type { Labelled } from "../../evaluate/knn.ts";
import { type Matrix, matrixFrom } from "../../evaluate/matrix.ts";

/** A matrix of these rows. */
export function rows(...values: readonly (readonly number[])[]): Matrix {
  return matrixFrom(Float32Array.from(values.flat()), values[0].length);
}

/** Rows around one direction per class; `spread` is the noise's standard deviation. */
export function clusters(
  { count, classes, columns, spread, seed }: {
    count: number;
    classes: number;
    columns: number;
    spread: number;
    seed: number;
  },
): Labelled {
  const centres = randomStream({ seed: 1, purpose: "centres" });
  const noise = randomStream({ seed, purpose: "noise" });
  const directions = Array.from({ length: classes * columns }, () => centres.normal());
  const labels = Uint32Array.from({ length: count }, (_, i) => i % classes);
  const data = Float32Array.from(
    { length: count * columns },
    (_, at) => directions[labels[Math.floor(at / columns)] * columns + at % columns] + spread * noise.normal(),
  );
  return { features: matrixFrom(data, columns), labels };
}

/** Features that are all the same, with labels shared out in turn. */
export function collapsed(count: number, classes: number): Labelled {
  const labels = Uint32Array.from({ length: count }, (_, i) => i % classes);
  return { features: matrixFrom(new Float32Array(count * 3).fill(0.7), 3), labels };
}
