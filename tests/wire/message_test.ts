import { assertEquals, assertThrows } from "@std/assert";
import { z } from "zod";
import { WireError } from "../../wire/error.ts";
import { defineMessages } from "../../wire/message.ts";
import { messages } from "../../wire/messages.ts";

const table = defineMessages({
  move: z.strictObject({ x: z.number(), tags: z.array(z.string()).max(2) }),
  halt: z.strictObject({}),
});

Deno.test("a table parses its own messages into a union told apart by type", () => {
  const message = table.parse({ type: "move", x: 1, tags: ["a"] });
  assertEquals(message.type === "move" ? message.x : undefined, 1);
  assertEquals(table.parse({ type: "halt" }), { type: "halt" });
  assertEquals(table.names, ["move", "halt"]);
});

Deno.test("a table refuses what is not its own, naming the field", () => {
  const cases: [unknown, string][] = [
    [null, "message type undefined is unknown"],
    ["move", "message type undefined is unknown"],
    [{ type: 3 }, "message type number is unknown"],
    [{ type: "constructor" }, 'message type "constructor" is unknown'],
    [{ type: "move", x: "1", tags: [] }, 'message "move" is malformed: x: '],
    [{ type: "move", x: 1, tags: ["a", "b", "c"] }, 'message "move" is malformed: tags: '],
    [{ type: "move", x: 1, tags: [5] }, 'message "move" is malformed: tags.0: '],
    [{ type: "halt", x: 1 }, 'message "halt" is malformed: '],
  ];
  for (const [value, reason] of cases) assertThrows(() => table.parse(value), WireError, reason);
});

Deno.test("a message cannot declare a field named type", () => {
  assertThrows(() => defineMessages({ bad: z.strictObject({ type: z.string() }) }), TypeError, 'named "type"');
});

Deno.test("every message that travels is strict about unknown fields", () => {
  for (const type of messages.names) assertThrows(() => messages.parse({ type, "no-such-field": 1 }), WireError, type);
});

Deno.test("losses that are no numbers travel, so that the controller hears of them; nothing else is taken for one", () => {
  const times = { dataMs: 1, computeMs: 1, syncMs: 1, deviceBytes: 1 };
  const prepared = (loss: unknown) =>
    messages.parse({
      ...{ type: "prepared", step: 0, epoch: 0, weights: "", ...times },
      replicas: [{ replica: 0, loss, embeddingDeviation: loss }],
    });
  for (const loss of [NaN, Infinity, -Infinity, 1.5]) {
    const message = prepared(loss);
    assertEquals(message.type === "prepared" && message.replicas[0].loss, loss);
    assertEquals(messages.parse({ type: "assignment", step: 0, epoch: 0, perplexity: loss }).type, "assignment");
  }
  for (const loss of [undefined, null, "1", 1n]) assertThrows(() => prepared(loss), WireError, "expected a number");
});
