import { assert, assertEquals } from "@std/assert";
import { deadline } from "@std/async/deadline";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";
import { workerLink } from "../../wire/worker_link.ts";
import { linkExam } from "./link_exam.ts";

linkExam("worker", (limits) => {
  const { port1, port2 } = new MessageChannel();
  port1.start();
  port2.start();
  const left = workerLink(port1, { peer: "right", ...limits });
  const right = workerLink(port2, { peer: "left", ...limits });
  const close = async () => {
    left.close("test over");
    await new Promise((resolve) => setTimeout(resolve));
    port1.close();
    port2.close();
  };
  return Promise.resolve({ left, right, close });
});

Deno.test("a worker link carries tensors to a real Worker and back, moving whole buffers", async () => {
  const worker = new Worker(new URL("./worker_entry.ts", import.meta.url), { type: "module" });
  try {
    const link = workerLink(worker, { peer: "worker" });
    const answer = new Promise<Message>((resolve, reject) => {
      link.onMessage = resolve;
      link.onClose = reject;
    });
    const values = new Float32Array([1, 2, 3]);
    link.send({ type: "reduced", epoch: 0, key: "k", values: toWire(values) });
    assertEquals(values.length, 0, "the buffer was not moved");
    const message = await deadline(answer, 15_000);
    assert(message.type === "reduced");
    assertEquals([...f32FromWire(message.values)], [2, 4, 6]);
    link.close("test over");
  } finally {
    worker.terminate();
  }
});

Deno.test("a worker link copies bytes that are part of a larger buffer or are sent twice in one message", () => {
  const { port1, port2 } = new MessageChannel();
  const link = workerLink(port1, { peer: "right" });
  const whole = new Float32Array([1, 2, 3, 4]);
  link.send({ type: "reduced", epoch: 0, key: "k", values: toWire(whole.subarray(1, 2)) });
  assertEquals(whole.length, 4);
  link.close("test over");
  port1.close();
  port2.close();
});
