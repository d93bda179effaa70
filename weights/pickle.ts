/**
 * A reader of Python pickles that cannot execute anything: it builds numbers, texts, lists, tuples and dicts, and calls
 * nothing but the few constructors that its caller names. Every other opcode and global is refused by name. It knows
 * neither torch nor files. Opcodes: CPython's `Lib/pickletools.py`.
 */
import { WeightsError } from "./error.ts";

/** What a pickle holds once read. Tuples and lists are arrays, dicts are maps; values may refer to each other in circles. */
export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array<ArrayBuffer>
  | PickleValue[]
  | Map<PickleValue, PickleValue>
  | PickleGlobal
  | PickleObject;

/** A name that a pickle refers to, e.g. `torch.FloatStorage`. */
export class PickleGlobal {
  constructor(readonly name: string) {}
}

/** What a caller's constructor made; opaque to the reader. */
export abstract class PickleObject {}

/** What a pickle may refer to. */
export interface PickleGrammar {
  /** Constructors by name; their arguments are what the pickle gives. */
  readonly constructors: Readonly<Record<string, (args: readonly PickleValue[]) => PickleValue>>;
  /** Names that may stand as values without being called. */
  readonly names: ReadonlySet<string>;
  /** What a persistent id stands for; such ids are refused when absent. */
  readonly persistent?: (id: PickleValue) => PickleValue;
  /** What to do about a refused name; ends the error. */
  readonly remedy?: string;
}

/** Longest text or bytes of one value. */
const TEXT_BYTES_MAX = 64 * 2 ** 20;
/**
 * What the values of one pickle may take in memory, as estimated below. A pickle is a program: one byte may make a dict
 * of hundreds. The largest published state dicts, with their optimisers, need some tens of MiB.
 */
const MEMORY_BYTES_MAX = 256 * 2 ** 20;
/** Estimates, in bytes, of a place on the stack or in the memo, a list, and a dict. */
const PLACE_BYTES = 32, LIST_BYTES = 64, DICT_BYTES = 256;

/** A pickle that was read, and where it ended. */
export interface PickleRead {
  readonly value: PickleValue;
  /** Bytes up to and with the STOP opcode. */
  readonly byteLength: number;
}

/**
 * Reads the pickle that `bytes` start with.
 *
 * @throws {WeightsError} for a truncated or malformed pickle, and for every opcode or global that is not plain data.
 */
export function readPickle(bytes: Uint8Array<ArrayBuffer>, grammar: PickleGrammar): PickleRead {
  const machine = new Machine(bytes, grammar);
  while (machine.step());
  return { value: machine.result(), byteLength: machine.position };
}

/** The opcodes that are understood, by number; the others are in {@linkcode refusedOpcodes} or unknown. */
const opcodes: ReadonlyMap<number, (machine: Machine) => void> = new Map<number, (machine: Machine) => void>([
  [0x80, (m) => m.protocol()],
  [0x95, (m) => m.skip(8)],
  [code("("), (m) => m.mark()],
  [code("0"), (m) => void m.pop()],
  [code("1"), (m) => void m.popMark()],
  [code("N"), (m) => m.push(null)],
  [0x88, (m) => m.push(true)],
  [0x89, (m) => m.push(false)],
  [code("J"), (m) => m.push(m.view(4).getInt32(0, true))],
  [code("K"), (m) => m.push(m.view(1).getUint8(0))],
  [code("M"), (m) => m.push(m.view(2).getUint16(0, true))],
  [0x8a, (m) => m.push(m.long(m.view(1).getUint8(0)))],
  [code("G"), (m) => m.push(m.view(8).getFloat64(0, false))],
  [code("X"), (m) => m.push(m.text(m.view(4).getUint32(0, true)))],
  [0x8c, (m) => m.push(m.text(m.view(1).getUint8(0)))],
  [0x8d, (m) => m.push(m.text(m.length8()))],
  [code("U"), (m) => m.push(m.text(m.view(1).getUint8(0), "latin1"))],
  [code("T"), (m) => m.push(m.text(m.view(4).getUint32(0, true), "latin1"))],
  [code("C"), (m) => m.push(m.take(m.view(1).getUint8(0)))],
  [code("B"), (m) => m.push(m.take(m.view(4).getUint32(0, true)))],
  [code(")"), (m) => m.pushList()],
  [code("t"), (m) => m.pushList(m.popMark())],
  [0x85, (m) => m.pushList(m.popSome(1))],
  [0x86, (m) => m.pushList(m.popSome(2))],
  [0x87, (m) => m.pushList(m.popSome(3))],
  [code("]"), (m) => m.pushList()],
  [code("l"), (m) => m.pushList(m.popMark())],
  [code("a"), (m) => m.append([m.pop()])],
  [code("e"), (m) => m.append(m.popMark())],
  [code("}"), (m) => m.pushDict([])],
  [code("d"), (m) => m.pushDict(m.popMark())],
  [code("s"), (m) => m.setItems(m.popSome(2))],
  [code("u"), (m) => m.setItems(m.popMark())],
  [code("q"), (m) => m.remember(m.view(1).getUint8(0))],
  [code("r"), (m) => m.remember(m.view(4).getUint32(0, true))],
  [0x94, (m) => m.remember()],
  [code("h"), (m) => m.recall(m.view(1).getUint8(0))],
  [code("j"), (m) => m.recall(m.view(4).getUint32(0, true))],
  [code("c"), (m) => m.global(`${m.line()}.${m.line()}`)],
  [0x93, (m) => m.stackGlobal()],
  [code("R"), (m) => m.reduce()],
  [0x81, (m) => m.reduce()],
  [code("b"), (m) => m.build()],
  [code("Q"), (m) => m.persistentId()],
]);

/** Opcodes of pickles that are no plain data, or that nothing writes any more, with the names errors show. */
const refusedOpcodes: ReadonlyMap<number, string> = new Map([
  [code("i"), "INST"],
  [code("o"), "OBJ"],
  [0x92, "NEWOBJ_EX"],
  [0x82, "EXT1"],
  [0x83, "EXT2"],
  [0x84, "EXT4"],
  [0x8b, "LONG4"],
  [0x8e, "BINBYTES8"],
  [0x8f, "EMPTY_SET"],
  [0x90, "ADDITEMS"],
  [0x91, "FROZENSET"],
  [0x96, "BYTEARRAY8"],
  [0x97, "NEXT_BUFFER"],
  [0x98, "READONLY_BUFFER"],
  [code("P"), "PERSID"],
  [code("I"), "INT"],
  [code("L"), "LONG"],
  [code("F"), "FLOAT"],
  [code("S"), "STRING"],
  [code("V"), "UNICODE"],
  [code("p"), "PUT"],
  [code("g"), "GET"],
  [code("2"), "DUP"],
]);

function code(character: string): number {
  return character.charCodeAt(0);
}

/** The stack machine that a pickle is a program for. */
class Machine {
  position = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #grammar: PickleGrammar;
  readonly #stack: PickleValue[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  #memoryBytes = 0;
  #done = false;

  constructor(bytes: Uint8Array<ArrayBuffer>, grammar: PickleGrammar) {
    this.#bytes = bytes;
    this.#grammar = grammar;
  }

  /** Carries out one opcode; whether there is another. */
  step(): boolean {
    const at = this.position;
    const opcode = this.take(1)[0];
    if (opcode === code(".")) {
      this.#done = true;
      return false;
    }
    const action = opcodes.get(opcode);
    if (action === undefined) {
      const name = refusedOpcodes.get(opcode) ?? `0x${opcode.toString(16)}`;
      throw broken(`opcode ${name} at byte ${at} is not plain data`);
    }
    action(this);
    return true;
  }

  /** Counts memory that a value takes. */
  charge(byteLength: number): void {
    this.#memoryBytes += byteLength;
    if (this.#memoryBytes > MEMORY_BYTES_MAX) {
      throw broken(`its values would take more than ${MEMORY_BYTES_MAX / 2 ** 20} MiB of memory`);
    }
  }

  result(): PickleValue {
    if (!this.#done || this.#stack.length !== 1) throw broken(`it ends with ${this.#stack.length} values, not 1`);
    return this.#stack[0];
  }

  take(count: number): Uint8Array<ArrayBuffer> {
    const left = this.#bytes.byteLength - this.position;
    if (count > left) throw broken(`it is truncated: ${count} bytes are due at byte ${this.position}, ${left} follow`);
    const part = this.#bytes.subarray(this.position, this.position + count);
    this.position += count;
    return part;
  }

  view(count: number): DataView {
    const { buffer, byteOffset } = this.take(count);
    return new DataView(buffer, byteOffset, count);
  }

  skip(count: number): void {
    this.take(count);
  }

  length8(): number {
    const length = this.view(8).getBigUint64(0, true);
    if (length > BigInt(TEXT_BYTES_MAX)) throw broken(`a text of ${length} bytes is longer than ${TEXT_BYTES_MAX}`);
    return Number(length);
  }

  text(byteLength: number, encoding = "utf-8"): string {
    if (byteLength > TEXT_BYTES_MAX) throw broken(`a text of ${byteLength} bytes is longer than ${TEXT_BYTES_MAX}`);
    this.charge(2 * byteLength);
    return new TextDecoder(encoding, { ignoreBOM: true }).decode(this.take(byteLength));
  }

  line(): string {
    const end = this.#bytes.indexOf(10, this.position);
    if (end < 0 || end - this.position > 1_000) throw broken(`a name at byte ${this.position} has no end`);
    const text = this.text(end - this.position);
    this.skip(1);
    return text;
  }

  /** A little-endian two's complement integer. */
  long(byteLength: number): number | bigint {
    const bytes = this.take(byteLength);
    let value = 0n;
    for (let i = byteLength - 1; i >= 0; i--) value = value << 8n | BigInt(bytes[i]);
    if (byteLength > 0 && bytes[byteLength - 1] >= 128) value -= 1n << BigInt(8 * byteLength);
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : value;
  }

  protocol(): void {
    const version = this.view(1).getUint8(0);
    if (version < 2 || version > 5) throw broken(`its protocol is ${version}; 2 to 5 are read`);
  }

  mark(): void {
    this.charge(PLACE_BYTES);
    this.#marks.push(this.#stack.length);
  }

  push(value: PickleValue): void {
    this.charge(PLACE_BYTES);
    this.#stack.push(value);
  }

  pushList(values: PickleValue[] = []): void {
    this.charge(LIST_BYTES);
    this.push(values);
  }

  pop(): PickleValue {
    return this.popSome(1)[0];
  }

  popSome(count: number): PickleValue[] {
    const floor = this.#marks.at(-1) ?? 0;
    if (this.#stack.length - count < floor) throw broken(`an opcode before byte ${this.position} finds too few values`);
    return this.#stack.splice(this.#stack.length - count, count);
  }

  popMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) throw broken(`an opcode before byte ${this.position} finds no mark`);
    return this.#stack.splice(mark);
  }

  append(values: readonly PickleValue[]): void {
    const list = this.#top();
    if (!Array.isArray(list)) throw broken(`values before byte ${this.position} are appended to what is no list`);
    for (const value of values) list.push(value);
  }

  pushDict(items: readonly PickleValue[]): void {
    this.charge(DICT_BYTES);
    this.push(new Map());
    this.setItems(items);
  }

  setItems(items: readonly PickleValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof Map) || items.length % 2 !== 0) {
      throw broken(`items before byte ${this.position} are set in what is no dict`);
    }
    for (let i = 0; i < items.length; i += 2) dict.set(items[i], items[i + 1]);
  }

  remember(index = this.#memo.size): void {
    this.charge(2 * PLACE_BYTES);
    this.#memo.set(index, this.#top());
  }

  recall(index: number): void {
    const value = this.#memo.get(index);
    if (value === undefined) {
      throw broken(`value ${index} is asked for before byte ${this.position} and was never kept`);
    }
    this.push(value);
  }

  global(name: string): void {
    const { constructors, names, remedy } = this.#grammar;
    if (!Object.hasOwn(constructors, name) && !names.has(name)) {
      const ending = remedy === undefined ? "" : `; ${remedy}`;
      throw broken(`it refers to "${name.slice(0, 200)}", which is not plain data; nothing was executed${ending}`);
    }
    this.push(new PickleGlobal(name));
  }

  stackGlobal(): void {
    const [module, name] = this.popSome(2);
    if (typeof module !== "string" || typeof name !== "string") throw broken("a global's name is no text");
    this.global(`${module}.${name}`);
  }

  reduce(): void {
    const [callee, args] = this.popSome(2);
    const name = callee instanceof PickleGlobal ? callee.name : undefined;
    if (name === undefined || !Object.hasOwn(this.#grammar.constructors, name)) {
      throw broken(`it calls ${name === undefined ? "a value" : `"${name}"`}, which makes no plain data`);
    }
    if (!Array.isArray(args)) throw broken(`it calls "${name}" without a list of arguments`);
    // A list may be remembered and given to many calls, each of which makes a dict of it.
    const longest = args.reduce<number>((most, value) => Array.isArray(value) ? Math.max(most, value.length) : most, 0);
    this.charge(DICT_BYTES + 2 * PLACE_BYTES * longest);
    this.push(this.#grammar.constructors[name](args));
  }

  /** State set on an object: only dicts may get any, and it is dropped (torch keeps versions in `_metadata` there). */
  build(): void {
    this.pop();
    if (!(this.#top() instanceof Map)) throw broken(`it sets attributes of an object before byte ${this.position}`);
  }

  persistentId(): void {
    const id = this.pop();
    if (this.#grammar.persistent === undefined) throw broken("it refers to data outside the pickle");
    this.push(this.#grammar.persistent(id));
  }

  #top(): PickleValue {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) {
      throw broken(`an opcode before byte ${this.position} finds no value`);
    }
    return this.#stack[this.#stack.length - 1];
  }
}

function broken(what: string): WeightsError {
  return new WeightsError(`Cannot read the pickle: ${what}`);
}
