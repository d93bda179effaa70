import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareMixedSteps } from "./pretrain_steps.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("the losses of ten training steps in mixed precision are within 1% of PyTorch's in f32", async (device) => {
  assertRows(await compareMixedSteps(folder, device));
});
