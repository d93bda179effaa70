import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareSwavLoss } from "./swav_loss.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("SwAV's loss and its gradients match PyTorch for given codes", async (device) => {
  assertRows(await compareSwavLoss(folder, device));
});
