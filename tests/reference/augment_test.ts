import { assert, assertEquals } from "@std/assert";
import { eachDevice } from "../devices.ts";
import { compareAugment } from "./augment.ts";

const folder = new URL("../golden", import.meta.url).pathname;

eachDevice("augmented images match torchvision's after the crop, the colours and the blur", async (device) => {
  const rows = await compareAugment(folder, device);
  assertEquals(rows.length, 18);
  for (const { name, figure, bound } of rows) {
    assert(figure <= bound, `${name}: mean absolute difference ${figure} exceeds ${bound}`);
    // Ours repeats PIL's arithmetic; only normalising and undoing it rounds.
    assert(figure <= 0.02 / 255, `${name}: mean absolute difference ${figure * 255} of 255 is not exact`);
  }
});
