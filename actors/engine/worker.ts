/**
 * The GPU worker's entry: an engine behind the link to its trainer's main thread. Waiting for the GPU blocks this thread
 * and no other.
 */
import { openDevice } from "../../device/open.ts";
import { workerLink } from "../../wire/worker_link.ts";
import { Engine } from "./engine.ts";

declare const self: {
  name: string;
  postMessage(message: unknown, transfer: Transferable[]): void;
  addEventListener(type: "message", listener: (event: MessageEvent) => void): void;
  removeEventListener(type: "message", listener: (event: MessageEvent) => void): void;
};

const link = workerLink(self, { peer: "trainer" });
const engine = new Engine({
  id: self.name,
  send: (message) => link.send(message),
  openDevice,
  now: () => performance.now(),
});
link.onMessage = (message) => engine.receive(message);
