import { assertEquals, assertThrows } from "@std/assert";
import { Mailbox } from "../../../actors/runtime/mailbox.ts";

const delivery = (count: number) => ({ message: { type: "ping" as const, count }, from: "a" });

Deno.test("a mailbox gives messages back in order, however puts and takes mix", () => {
  const mailbox = new Mailbox(1_000);
  let [put, taken] = [0, 0];
  for (let round = 0; round < 500; round++) {
    for (let index = 0; index < round % 7; index++) mailbox.put(delivery(put++));
    for (let index = 0; index < round % 5 && mailbox.length > 0; index++) {
      assertEquals(mailbox.take(), delivery(taken++));
    }
    assertEquals(mailbox.length, put - taken);
  }
  while (mailbox.length > 0) assertEquals(mailbox.take(), delivery(taken++));
  assertEquals([taken, mailbox.take()], [put, undefined]);
});

Deno.test("a full mailbox refuses, naming the message and its sender, and forgets nothing", () => {
  const mailbox = new Mailbox(2);
  mailbox.put(delivery(1));
  mailbox.put(delivery(2));
  assertThrows(() => mailbox.put(delivery(3)), RangeError, 'mailbox is full: 2 messages wait and "ping" came from a');
  assertEquals(mailbox.take(), delivery(1));
  mailbox.put(delivery(4));
  assertEquals([mailbox.take(), mailbox.take()], [delivery(2), delivery(4)]);
  assertThrows(() => new Mailbox(0), RangeError, "capacity must be ≥ 1");
});
