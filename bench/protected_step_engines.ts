/**
 * The Worker of `bench/protected_step.ts`: two engines of one trainer on one device, one of which goes without protection.
 * Each speaks with its trainer's main thread, as in a run. When a step's update is on the device, the benchmark is told.
 */
import { createHash } from "node:crypto";
import { Engine } from "../actors/engine/engine.ts";
import type { Device, OpenOptions } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { freeTensors, readTensors, zeros } from "../tensor/tensor.ts";
import { workerLink, workerSelf } from "../wire/worker_link.ts";
import type { ArmName, EnginesNews, EnginesOrder } from "./protected_step_arms.ts";

const self = workerSelf();
const engines = new Map<ArmName, Engine>();
let opened: Promise<Device> | undefined;

function tell(news: EnginesNews): void {
  self.postMessage(news, []);
}

/** Both engines get the same device. */
function open(options: OpenOptions): Promise<Device> {
  return opened ??= openDevice(options);
}

/** When the step that an engine is at came to the end of each phase. */
interface Marks {
  ordered: number;
  codes: number;
  gradient: number;
  report: number;
}

/** Waits until the device has done all that was asked of it so far. */
async function settle(arm: ArmName, { step, marks }: { step: number; marks: Marks }): Promise<void> {
  const device = await open({});
  // An order that has just come is carried out first.
  await new Promise((resolve) => setTimeout(resolve, 0));
  const one = zeros(device, [1]);
  await readTensors([one]);
  freeTensors([one]);
  const { ordered, codes, gradient, report } = marks, end = performance.now();
  const phases = {
    "to codes": codes - ordered,
    "to the last gradient sent": gradient - codes,
    "to the report": report - gradient,
    "to the moved weights": end - report,
  };
  tell({ what: "settled", arm, step, phases });
}

function begin(arm: ArmName, port: MessagePort): void {
  const link = workerLink(port, { peer: "trainer-0" });
  const protectedArm = arm === "with protection";
  const marks = { ordered: 0, codes: 0, gradient: 0, report: 0 };
  let digest = createHash("sha256");
  const engine = new Engine({
    id: "trainer-0",
    unprotected: !protectedArm,
    openDevice: open,
    now: () => performance.now(),
    send(message) {
      if (message.type === "snapshot-part") {
        digest.update(`${message.part.name}\n`).update(message.part.tensor.bytes);
      } else if (message.type === "snapshot-end") {
        tell({ what: "state", arm, digest: digest.digest("hex") });
        digest = createHash("sha256");
      } else {
        link.send(message);
        const now = performance.now();
        if (message.type === "contribute" && message.key.startsWith("gradient/")) marks.gradient = now;
        if (message.type !== "prepared") return;
        marks.report = now;
        if (!protectedArm) settle(arm, { step: message.step, marks });
      }
    },
  });
  link.onMessage = (message) => {
    if (message.type === "step") marks.ordered = performance.now();
    if (message.type === "codes") marks.codes = performance.now();
    engine.receive(message);
    if (message.type === "commit") settle(arm, { step: message.step, marks });
  };
  engines.set(arm, engine);
  port.start();
}

self.addEventListener("message", async ({ data }) => {
  const order: EnginesOrder = data;
  if (order.what === "begin") return begin(order.arm, order.port);
  if (order.what === "state") {
    const { step } = order;
    return engines.get(order.arm)?.receive({ type: "save", step, epoch: 0, by: "trainer-0", progress: {} });
  }
  (await opened)?.destroy();
  tell({ what: "closed" });
});
