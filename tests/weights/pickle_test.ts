import { assert, assertEquals, assertThrows } from "@std/assert";
import { WeightsError } from "../../weights/error.ts";
import { PickleGlobal, type PickleGrammar, type PickleValue, readPickle } from "../../weights/pickle.ts";
import { bytesOf } from "./bytes.ts";

const plain: PickleGrammar = { constructors: {}, names: new Set() };
const made: PickleGrammar = {
  constructors: { "a.Made": (args) => ["made", ...args] },
  names: new Set(["a.Name"]),
  persistent: (id) => ["kept", id],
  remedy: "save less",
};

/** Reads a program of opcodes behind protocol 2's header. */
function read(program: (string | number)[], grammar = plain): PickleValue {
  return readPickle(bytesOf(0x80, 2, ...program), grammar).value;
}

Deno.test("readPickle() reads numbers, texts, lists, tuples and dicts", () => {
  assertEquals(read(["K", 7, "."]), 7);
  assertEquals(read(["J", 0xfe, 0xff, 0xff, 0xff, "."]), -2);
  assertEquals(read(["M", 1, 2, "."]), 513);
  assertEquals(read([0x8a, 0, "."]), 0);
  assertEquals(read([0x8a, 1, 0xff, "."]), -1);
  assertEquals(read([0x8a, 9, 0, 0, 0, 0, 0, 0, 0, 0, 1, "."]), 2n ** 64n);
  assertEquals(read(["G", 0xbf, 0xf8, 0, 0, 0, 0, 0, 0, "."]), -1.5);
  assertEquals(read(["X", 3, 0, 0, 0, "é!", "."]), "é!");
  assertEquals(read([0x8c, 3, 0xef, 0xbb, 0xbf, "."]), "\ufeff", "nothing is dropped");
  assertEquals(read(["U", 1, 0xe9, "."]), "é");
  assertEquals(read(["C", 2, 1, 2, "."]), Uint8Array.of(1, 2));
  assertEquals(read(["N", 0x88, 0x89, 0x87, "."]), [null, true, false]);
  assertEquals(read(["]", "(", "K", 1, "K", 2, "e", "K", 3, "a", "."]), [1, 2, 3]);
  assertEquals(
    read(["}", "(", "U", 1, "a", "K", 1, "U", 1, "b", ")", "u", "."]),
    new Map<PickleValue, PickleValue>([["a", 1], ["b", []]]),
  );
});

Deno.test("readPickle() keeps what is remembered as one value", () => {
  const value = read(["]", "q", 0, "h", 0, 0x86, "."]);
  assert(Array.isArray(value));
  assert(value[0] === value[1]);
  const circle = read(["]", "q", 0, "h", 0, "a", "."]);
  assert(Array.isArray(circle) && circle[0] === circle);
});

Deno.test("readPickle() ends where the pickle ends", () => {
  assertEquals(readPickle(bytesOf(0x80, 2, "N.more"), plain), { value: null, byteLength: 4 });
});

Deno.test("readPickle() calls the constructors it is given, and nothing else", () => {
  assertEquals(read(["ca\nMade\n", "K", 1, 0x85, "R."], made), ["made", 1]);
  assertEquals(read([0x8c, 1, "a", 0x8c, 4, "Made", 0x93, ")", 0x81, "."], made), ["made"]);
  assertEquals(read(["K", 5, "Q."], made), ["kept", 5]);
  const name = read(["ca\nName\n."], made);
  assert(name instanceof PickleGlobal && name.name === "a.Name");
  assertThrows(() => read(["ca\nName\n)R."], made), WeightsError, 'it calls "a.Name"');
  assertThrows(() => read(["K", 1, ")R."], made), WeightsError, "it calls a value");
});

Deno.test("readPickle() refuses foreign globals and opcodes by name", () => {
  for (const name of ["os.system", "builtins.eval", "a.toString", "a.__proto__", ".constructor"]) {
    const [module, attribute] = name.split(".");
    const program = [`c${module}\n${attribute}\n`, "X", 4, 0, 0, 0, "true", 0x85, "R."];
    assertThrows(() => read(program, made), WeightsError, `"${name}"`);
  }
  assertThrows(() => read(["cos\nsystem\n)R."], made), WeightsError, "nothing was executed; save less");
  for (
    const [name, program] of Object.entries({
      INST: "ios\nsystem\n.",
      OBJ: "o.",
      INT: "I1\n.",
      STRING: "S'a'\n.",
      DUP: "2.",
      PERSID: "P1\n.",
    })
  ) assertThrows(() => read([program]), WeightsError, `opcode ${name} at byte 2`);
  assertThrows(() => read([0x92, "."]), WeightsError, "opcode NEWOBJ_EX");
  assertThrows(() => read([0x82, 1, "."]), WeightsError, "opcode EXT1");
  assertThrows(() => read([0xff]), WeightsError, "opcode 0xff");
  assertThrows(() => read(["K", 1, "Q."]), WeightsError, "outside the pickle");
  assertThrows(() => readPickle(bytesOf(0x80, 9, "N."), plain), WeightsError, "protocol is 9");
});

Deno.test("readPickle() refuses what is truncated or makes no sense", () => {
  for (
    const program of [
      [],
      ["K"],
      ["X", 9, 0, 0, 0, "abc."],
      ["."],
      ["NN."],
      ["0."],
      ["(0."],
      ["e."],
      ["N(K", 1, "e."],
      ["]K", 1, "K", 2, "s."],
      ["}(K", 1, "u."],
      ["h", 3, "."],
      ["ca"],
      ["K", 1, "}b."],
      [0x85, "."],
    ]
  ) assertThrows(() => read(program, made), WeightsError, "Cannot read the pickle");
});

Deno.test("readPickle() refuses a pickle whose values take far more memory than its bytes", () => {
  const count = 4_000_000;
  const dicts = new Uint8Array(count + 5).fill("}".charCodeAt(0));
  dicts.set([0x80, 2, ...bytesOf("](")]);
  dicts[count + 4] = ".".charCodeAt(0);
  assertThrows(() => readPickle(dicts, plain), WeightsError, "MiB of memory");

  // One remembered list, given to a constructor again and again.
  const list = bytesOf(0x80, 2, "](", "N".repeat(100_000), "e0", "]", "(", "N".repeat(100_000), "eq", 0);
  const call = bytesOf("ca\nMade\n", "h", 0, 0x85, "R");
  const calls = new Uint8Array(list.byteLength + 1_000 * call.byteLength);
  calls.set(list);
  for (let i = 0; i < 1_000; i++) calls.set(call, list.byteLength + i * call.byteLength);
  assertThrows(() => readPickle(calls, made), WeightsError, "MiB of memory");
});
