import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareLinearProbe } from "./linear_probe.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("five supervised steps with sgd() match PyTorch", async (device) => {
  assertRows(await compareLinearProbe(folder, device));
});
