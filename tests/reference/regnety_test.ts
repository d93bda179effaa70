import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareRegnety } from "./regnety.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("a small RegNetY matches torchvision: features, stages, gradients, running statistics", async (device) => {
  assertRows(await compareRegnety(folder, device));
});
