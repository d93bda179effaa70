import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { comparePretrainCluster, comparePretrainSteps } from "./pretrain_steps.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("ten training steps match PyTorch in one process", async (device) => {
  assertRows(await comparePretrainSteps(folder, device));
});

for (const trainers of [2, 3]) {
  eachDevice(`ten training steps of ${trainers} trainers over WebSockets match PyTorch on the whole batch`, async (
    device,
  ) => {
    assertRows(await comparePretrainCluster(folder, { device, trainers }));
  });
}
