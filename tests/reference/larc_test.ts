import { eachDevice } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { compareLarc } from "./larc.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("three steps of larc() match PyTorch, zero-norm tensor included", async (device) => {
  assertRows(await compareLarc(folder, device));
});
