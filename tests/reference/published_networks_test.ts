/** The networks that take seconds here; `deno task test:reference` compares all. */
import { openDevice } from "../../device/open.ts";
import { eachDevice, providersPresent } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { comparePublishedNetworks } from "./published_networks.ts";

const folder = decodeURIComponent(new URL("../golden", import.meta.url).pathname);

eachDevice("logits of RegNetY-400MF match torchvision's", async (device) => {
  assertRows(await comparePublishedNetworks(folder, { device, names: ["regnet_y_400mf"] }));
});

Deno.test("logits of ResNet-50 match torchvision's", async () => {
  const device = await openDevice({ provider: providersPresent()[0] });
  try {
    assertRows(await comparePublishedNetworks(folder, { device, names: ["resnet50"] }));
  } finally {
    device.destroy();
  }
});
