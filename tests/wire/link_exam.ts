/** What every kind of link must do; `memory_link_test.ts`, `worker_link_test.ts` and `socket_link_test.ts` run it. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { WireError } from "../../wire/error.ts";
import type { Link, LinkLimits } from "../../wire/link.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

/** Two connected ends, of actors "left" and "right", and what must be closed afterwards. */
export interface LinkPair {
  left: Link;
  right: Link;
  close(): Promise<void>;
}

/** Makes a fresh pair. */
export type MakePair = (limits?: LinkLimits) => Promise<LinkPair>;

const ping = (count: number): Message => ({ type: "ping", count });

function tensorMessage(values: Float32Array<ArrayBuffer>): Message {
  return { type: "reduced", epoch: 0, key: "k", values: toWire(values) };
}

/** The next `count` messages of a link. */
function collect(link: Link, count: number): Promise<Message[]> {
  const messages: Message[] = [];
  const all = new Promise<Message[]>((resolve) => {
    link.onMessage = (message) => {
      messages.push(message);
      if (messages.length === count) resolve(messages);
    };
  });
  return deadline(all, 15_000);
}

/** The reason with which a link ends. */
function closed(link: Link): Promise<string> {
  return deadline(new Promise((resolve) => link.onClose = resolve), 15_000);
}

/** Registers the exam for one kind of link. */
export function linkExam(kind: string, make: MakePair): void {
  const test = (sentence: string, run: (pair: LinkPair) => Promise<void>, limits?: LinkLimits) =>
    Deno.test(`${kind} link: ${sentence}`, async () => {
      const pair = await make(limits);
      try {
        await run(pair);
      } finally {
        await pair.close();
      }
    });

  test("messages arrive in order, both ways, and each end knows its peer", async ({ left, right }) => {
    assertEquals([left.peer, right.peer], ["right", "left"]);
    for (let count = 0; count < 300; count++) {
      left.send(ping(count));
      right.send(ping(1_000 + count));
    }
    assertEquals(await collect(right, 300), Array.from({ length: 300 }, (_, count) => ping(count)));
    assertEquals(await collect(left, 300), Array.from({ length: 300 }, (_, count) => ping(1_000 + count)));
  });

  test("delivery never happens inside send()", async ({ left, right }) => {
    let sending = true;
    right.onMessage = () => assertEquals(sending, false);
    left.send(ping(1));
    sending = false;
    left.send({ type: "pong", count: 1 });
    await collect(right, 1);
  });

  test("large tensors keep their bits and their place among small messages", async ({ left, right }) => {
    const bits = Uint32Array.from({ length: 1_100_001 }, (_, index) => Math.imul(index, 2_654_435_761));
    left.send(ping(1));
    left.send(tensorMessage(new Float32Array(bits.slice().buffer)));
    left.send(ping(2));
    const [first, large, last] = await collect(right, 3);
    assertEquals([first, last], [ping(1), ping(2)]);
    assert(large.type === "reduced");
    const values = f32FromWire(large.values);
    const received = new Uint32Array(values.buffer, values.byteOffset, values.length);
    assertEquals(received.length, bits.length);
    assert(received.every((value, index) => value === bits[index]), "bits differ");
  });

  test("far more than a link has under way at once arrives in order, large and small", async ({ left, right }) => {
    const sizes = [1, 700_000, 3, 1_500_000, 20_000, 5_000_000];
    const sent = Array.from({ length: 30 }, (_, index) => ({ index, length: sizes[index % sizes.length] }));
    const arrived = collect(right, sent.length);
    for (const { index, length } of sent) {
      left.send({ type: "weights-part", name: `${index}`, tensor: toWire(new Float32Array(length).fill(index)) });
    }
    const got = (await arrived).map((message) => {
      assert(message.type === "weights-part");
      const values = f32FromWire(message.tensor);
      assert(values.every((value) => value === Number(message.name)));
      return { index: Number(message.name), length: values.length };
    });
    assertEquals(got, sent);
  });

  test("the ends share no memory", async ({ left, right }) => {
    const values = new Float32Array([1, 2, 3, 4]).subarray(1, 3);
    left.send(tensorMessage(values));
    values[0] = 99;
    const [message] = await collect(right, 1);
    assert(message.type === "reduced");
    assertEquals([...f32FromWire(message.values)], [2, 3]);
  });

  test("all that was sent arrives before the end, which each side learns once, with the reason", async ({ left, right }) => {
    const events: string[] = [];
    left.onClose = (reason) => events.push(`left ${reason}`);
    right.onMessage = (message) => events.push(message.type);
    left.send(ping(1));
    left.send({ type: "pong", count: 2 });
    left.close("finished");
    left.close("again");
    const reason = await closed(right);
    right.close("again");
    assertEquals([reason, events], ["finished", ["left finished", "ping", "pong"]]);
    for (const link of [left, right]) {
      assertThrows(() => link.send(ping(3)), WireError, "the link is closed (finished)");
    }
  });

  test("what was sent before the end has left once `ended` resolves", async ({ left, right }) => {
    const arrived = collect(right, 2);
    left.send(tensorMessage(new Float32Array(1_000_000)));
    left.send(ping(1));
    left.close("finished");
    await deadline(left.ended, 15_000);
    assertEquals((await arrived)[1], ping(1));
    await deadline(right.ended, 15_000);
  });

  test("a late handler is still told of the end", async ({ left, right }) => {
    left.close("early");
    assertEquals(await closed(right), "early");
    assertEquals(await closed(left), "early");
  });

  test("a message that breaks its schema ends the link, naming the field", async ({ left, right }) => {
    const reasons = Promise.all([closed(left), closed(right)]);
    left.send(ping(-1));
    const [seenLeft, seenRight] = await reasons;
    assertStringIncludes(seenRight, 'bad message from left: message "ping" is malformed: count');
    assertStringIncludes(seenLeft, "bad message from left");
  });

  test("a message above the limit is refused and the link goes on", async ({ left, right }) => {
    assertThrows(() => left.send(tensorMessage(new Float32Array(500))), WireError, "more than 1000");
    left.send(ping(1));
    assertEquals(await collect(right, 1), [ping(1)]);
  }, { messageBytesMax: 1_000 });

  test("too much waiting ends the link with a reason instead of growing", async ({ left }) => {
    const reason = closed(left);
    assertThrows(
      () => {
        for (let count = 0; count < 1_000; count++) left.send(tensorMessage(new Float32Array(10_000)));
      },
      WireError,
      "right does not read",
    );
    assertStringIncludes(await reason, "at most 1000000 ");
  }, { bufferedBytesMax: 1_000_000 });

  test("bufferedBytes falls back to 0 once the peer has taken all", async ({ left, right }) => {
    left.send(tensorMessage(new Float32Array(100_000)));
    assert(left.bufferedBytes > 0);
    await collect(right, 1);
    for (let turn = 0; turn < 1_000 && left.bufferedBytes > 0; turn++) {
      await new Promise((resolve) => setTimeout(resolve));
    }
    assertEquals(left.bufferedBytes, 0);
  });
}
