import { poolGrid, poolGridReference } from "../../kernels/pool_grid.ts";
import {
  sigmoidCrossEntropy,
  sigmoidCrossEntropyGradient,
  sigmoidCrossEntropyReference,
} from "../../kernels/sigmoid_cross_entropy.ts";
import { eachDevice } from "../devices.ts";
import { assertClose, numbers, runKernel } from "./run.ts";

eachDevice("sigmoid cross-entropy and its gradient equal the reference, marks below 0 left out", async (device) => {
  for (const [rows, columns] of [[3, 5], [7, 70]]) {
    const shape = { rows, columns, scale: 0.5 };
    const logits = numbers(rows * columns, 1).map((value) => 40 * value);
    const marks = numbers(rows * columns, 2).map((value) => value < -0.3 ? -1 : value < 0.3 ? 0 : 1);
    const expected = sigmoidCrossEntropyReference({ logits, marks }, shape);
    const [, , losses] = await runKernel(device, sigmoidCrossEntropy(shape), [logits, marks, rows]);
    assertClose(losses, expected.losses, { bound: 1e-6, what: "losses" });
    const given = [logits, marks, rows * columns];
    const [, , gradient] = await runKernel(device, sigmoidCrossEntropyGradient(shape), given);
    assertClose(gradient, expected.gradient, { bound: 1e-6, what: "gradient" });
  }
});

eachDevice("pooling to a grid averages cells that overlap where sizes do not divide", async (device) => {
  for (const [channels, rows, columns] of [[8, 3, 1], [5, 2, 4], [4, 7, 5]]) {
    const shape = { images: 2, height: 7, width: 5, channels, rows, columns };
    const x = numbers(2 * 7 * 5 * channels, 3);
    const [, result] = await runKernel(device, poolGrid(shape), [x, 2 * rows * columns * channels]);
    assertClose(result, poolGridReference(x, shape), { bound: 1e-6, what: `${rows}x${columns}` });
  }
});
