import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareResnet } from "./regnety.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice(
  "a small ResNet in groups matches torchvision's: features, stages, gradients, running statistics",
  async (device) => {
    assertRows(await compareResnet(folder, device));
  },
);
