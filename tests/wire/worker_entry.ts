/** Worker of worker_link_test.ts: answers each tensor with the same values doubled. */
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import { workerLink, workerSelf } from "../../wire/worker_link.ts";

const link = workerLink(workerSelf(), { peer: "main" });
link.onMessage = (message) => {
  if (message.type !== "reduced") return link.close(`unexpected ${message.type}`);
  link.send({ ...message, values: toWire(f32FromWire(message.values).map((value) => value * 2)) });
};
