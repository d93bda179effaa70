/** The networks that take seconds here; `deno task test:reference` compares all. */
import { openDevice } from "../../device/open.ts";
import { eachDevice, providersPresent } from "../devices.ts";
import { assertRows } from "./arrays.ts";
import { comparePublishedNetworks } from "./published_networks.ts";

const folder = decodeURIComponent(new URL("../golden", import.meta.url).pathname);

for (const [title, name] of [["RegNetY-400MF", "regnet_y_400mf"], ["RegNetX-400MF", "regnet_x_400mf"]]) {
  eachDevice(`logits of ${title} match torchvision's`, async (device) => {
    assertRows(await comparePublishedNetworks(folder, { device, names: [name] }));
  });
}

for (const [title, name] of [["ResNet-50", "resnet50"], ["ViT-B/16", "vit_b_16"]]) {
  Deno.test(`logits of ${title} match torchvision's`, async () => {
    const device = await openDevice({ provider: providersPresent()[0] });
    try {
      assertRows(await comparePublishedNetworks(folder, { device, names: [name] }));
    } finally {
      device.destroy();
    }
  });
}
