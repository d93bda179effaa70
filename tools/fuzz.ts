/**
 * Fuzzing by seed: mutated frames through what a link does with bytes, mutated images through the loader's decoder.
 * `deno task fuzz --frames 1000000`, `deno task fuzz --images 10000`, both with `--seed S`. A fault is thrown with the
 * seed and number that replay it; it ends the process with an error.
 */
import { parseArgs } from "@std/cli/parse-args";
import { runPolicy, speakingRoles, whoMaySend } from "../actors/who_may_send.ts";
import { decodeImage } from "../data/decode.ts";
import { UnreadableImageError } from "../data/source.ts";
import { admission } from "../wire/admission.ts";
import { Assembler } from "../wire/assembler.ts";
import { batchOf, framesIn } from "../wire/batch.ts";
import { decode, encode, pack } from "../wire/codec.ts";
import { WireError } from "../wire/error.ts";
import { frameKind, framesOf, greetingFrame, readGreeting } from "../wire/frames.ts";
import { typeOf } from "../wire/head.ts";
import type { Message } from "../wire/messages.ts";
import { toWire } from "../wire/tensor.ts";

/** Bars: the most memory that one frame may take, and the longest that it may take. */
export const frameLimits = { allocationBytesMax: 64 * 1024 * 1024, frameMsMax: 5 } as const;

/** Numbers from a seed (mulberry32): the next whole number below `below`. */
export type Draw = (below: number) => number;

/** A {@linkcode Draw} of its own for every seed. */
export function drawsOf(seed: number): Draw {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed = (mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61)) ^ mixed;
    return Math.floor(((mixed ^ mixed >>> 14) >>> 0) / 2 ** 32 * below);
  };
}

const tensor = toWire(new Float32Array([1, -2, 3.5, 0, 5, 6]), [2, 3]);
const part = { file: "model", name: "trunk.stem.0.weight", tensor } as const;
const image = { file: "a.png", replacement: "b.png", error: "cut short" };

/** Messages of many shapes: all that carry tensors, lists, records and long texts. */
export const samples: readonly Message[] = [
  { type: "hello", id: "trainer-0", role: "trainer", url: "ws://127.0.0.1:1/", pid: 7 },
  {
    type: "directory",
    actors: Array.from({ length: 9 }, (_, i) => ({ id: `sync-${i}`, url: `ws://127.0.0.1:${i}/` })),
  },
  { type: "heartbeat", id: "sync-0", handled: 3 },
  { type: "failed", error: "Error: no\n at it", logTail: ["one", "two"] },
  { type: "host-ready", adapters: ["llvmpipe (cpu) through deno"] },
  { type: "spawn", id: "sync-0", role: "sync", environment: { A: "b" }, attempt: 2 },
  {
    type: "configure",
    config: { a: [1, { b: null }], c: "d" },
    trainers: [{ id: "t", low: 0, high: 4 }],
    shards: ["s"],
  },
  { type: "step", epoch: 0, step: 12, learningRate: 0.6 },
  {
    type: "batch",
    step: 1,
    replica: 0,
    ids: [1],
    offsets: [0],
    widths: [2],
    heights: [1],
    replaced: [image],
    pixels: toWire(new Uint8Array(6), [6]),
  },
  { type: "contribute", epoch: 0, key: "gradient/1/2@0", slots: 4, low: 0, high: 2, values: tensor },
  { type: "reduced", epoch: 0, key: "bn/3", values: tensor },
  { type: "scores", epoch: 0, step: 1, replica: 2, batch: 3, rows: 4, values: tensor },
  { type: "codes", epoch: 0, step: 1, replica: 2, values: toWire(new Uint16Array(4), [4]) },
  { type: "save", epoch: 0, by: "trainer-0", step: 3, progress: { losses: [1, 2, 3] } },
  { type: "snapshot-part", epoch: 0, step: 3, part },
  { type: "loaded", step: 3, digest: "0".repeat(64), progress: {}, notes: ["skipped one"] },
];

/** A change of `bytes` at random: one to four flipped, cut, doubled, inserted or spliced places. */
export function mutated(bytes: Uint8Array, draw: Draw, other: Uint8Array = bytes): Uint8Array<ArrayBuffer> {
  let result = new Uint8Array(bytes);
  for (let change = draw(4); change >= 0; change--) {
    const at = draw(result.length + 1), length = draw(Math.min(64, result.length - at) + 1);
    const join = (...parts: ArrayLike<number>[]) => Uint8Array.from(parts.flatMap((piece) => Array.from(piece)));
    const small = result.length <= 4_096;
    const kind = draw(small ? 8 : 4);
    if (kind === 0 && at < result.length) result[at] ^= 1 << draw(8);
    else if (kind === 1 && at < result.length) result[at] = draw(256);
    // Heads of the longest arrays, maps, texts and extensions, and extreme lengths.
    else if (kind === 2 && at < result.length) result[at] = [0xdd, 0xdf, 0xc6, 0xdb, 0xc9, 0xff, 0x7f, 0][draw(8)];
    else if (kind === 3) result = result.slice(0, at);
    else if (kind === 4) result = join(result.slice(0, at), result.slice(at + length));
    else if (kind === 5) result = join(result.slice(0, at + length), result.slice(at));
    else if (kind === 6) result = join(result.slice(0, at), Array.from({ length }, () => draw(256)), result.slice(at));
    else result = join(result.slice(0, at), other.slice(draw(other.length + 1)));
  }
  return result;
}

/** What a link does with one frame: joins, admits, decodes; the message when it is whole and right, of a batch the last. */
export type Receive = (frame: Uint8Array<ArrayBuffer>) => Message | undefined;

/** A receiver as a link of a run has it, between roles that may exchange `type`. */
export function receiverOf(type: string): Receive {
  const rule = whoMaySend[type] ?? { from: speakingRoles, to: speakingRoles };
  const id = (role: string) =>
    ["controller", "sinkhorn", "checkpointer", "evaluator"].includes(role) ? role : `${role}-0`;
  const admit = admission(runPolicy, { peer: id(rule.from[0]), own: id(rule.to[0]), now: () => 0 });
  const assembler = new Assembler(512 * 1024 * 1024, (beginning, length) => admit(typeOf(beginning), length));
  const receiveOne = (frame: Uint8Array<ArrayBuffer>): Message | undefined => {
    const packed = assembler.take(frame);
    return packed === undefined ? undefined : decode(packed.head, packed.tensors);
  };
  return (frame) => {
    if (assembler.underway || frame[0] !== frameKind.batch) return receiveOne(frame);
    let last: Message | undefined;
    for (const each of framesIn(frame)) last = receiveOne(each);
    return last;
  };
}

/** The frames of `message` in parts, all its tensors apart, in pieces of at most `bytesMax`. */
export function piecesOf(message: Message, bytesMax: number): Uint8Array<ArrayBuffer>[] {
  const packed = pack(message, { wholeBytesMax: 0, apartBytesMin: 1 });
  return [...framesOf(packed, bytesMax)].map((frame) => new Uint8Array(frame));
}

/** What happened to the frames of a run of {@linkcode fuzzFrames}. */
export interface FrameReport {
  readonly frames: number;
  readonly refused: number;
  readonly accepted: number;
  /** Longest time of a frame, in milliseconds, of the best of three tries where one took long. */
  readonly longestMs: number;
  /** Most memory that a frame took, in bytes. */
  readonly mostBytes: number;
}

/**
 * Sends `frames` mutated frames, by `seed`, through a link's receiving half.
 *
 * @throws {Error} naming the frame, for anything but a {@linkcode WireError}, for a frame over the memory of
 * {@linkcode frameLimits}, and for one over `frameMsMax`.
 */
export function fuzzFrames(
  { frames, seed, frameMsMax = Infinity }: { frames: number; seed: number; frameMsMax?: number },
): FrameReport {
  const draw = drawsOf(seed);
  // Small pieces, so that announcements and pieces are mutated too.
  const corpus = samples.map((message) => ({
    type: message.type,
    whole: [...framesOf({ head: encode(message) })].map((frame) => new Uint8Array(frame)),
    pieces: piecesOf(message, 24),
    parts: piecesOf(message, 4_096),
    batch: [batchOf(new Array(3).fill([...framesOf({ head: encode(message) })][0])).slice()],
  }));
  const report = { frames: 0, refused: 0, accepted: 0, longestMs: 0, mostBytes: 0 };
  while (report.frames < frames) {
    const number = report.frames;
    const { type, whole, pieces, parts, batch } = corpus[draw(corpus.length)];
    const original = [whole, whole, pieces, parts, batch][draw(5)];
    const other = corpus[draw(corpus.length)].whole[0];
    const victim = draw(original.length);
    const sent = original.map((frame, index) => index === victim ? mutated(frame, draw, other) : frame);
    const take = (): { ms: number; refused: boolean } => {
      const receive = receiverOf(type);
      let ms = 0, refused = false;
      for (const frame of sent) {
        const start = performance.now();
        try {
          receive(frame.slice());
        } catch (error) {
          if (!(error instanceof WireError)) {
            throw new Error(`frame ${number} of seed ${seed} threw ${error}`, { cause: error });
          }
          refused = true;
        }
        ms = Math.max(ms, performance.now() - start);
        if (refused) break;
      }
      return { ms, refused };
    };
    const before = memoryBytes();
    const { ms: first, refused } = take();
    report.mostBytes = Math.max(report.mostBytes, memoryBytes() - before);
    // The machine does other things too: only what is slow each time is slow.
    const ms = first > frameLimits.frameMsMax / 2 ? Math.min(first, take().ms, take().ms) : first;
    report.longestMs = Math.max(report.longestMs, ms);
    report.frames += sent.length;
    report[refused ? "refused" : "accepted"] += sent.length;
    if (report.mostBytes > frameLimits.allocationBytesMax || ms > frameMsMax) {
      throw new Error(`frame ${number} of seed ${seed} took ${ms} ms and ${report.mostBytes} bytes`);
    }
  }
  return report;
}

function memoryBytes(): number {
  const { heapUsed, external } = Deno.memoryUsage();
  return heapUsed + external;
}

/** Mutated greetings, `count` by `seed`: refused with a {@linkcode WireError}, or a well-formed id; how many were refused. */
export function fuzzGreetings({ count, seed }: { count: number; seed: number }): number {
  const draw = drawsOf(seed);
  const greeting = greetingFrame("trainer-0");
  let refused = 0;
  for (let index = 0; index < count; index++) {
    try {
      const { id } = readGreeting(mutated(greeting, draw));
      if (!/^[\w.:@/-]{1,200}$/.test(id)) throw new Error(`greeting ${index} of seed ${seed} gave id ${id}`);
    } catch (error) {
      if (!(error instanceof WireError)) throw error;
      refused++;
    }
  }
  return refused;
}

/** What happened to mutated images. */
export interface ImageReport {
  readonly images: number;
  readonly refused: number;
  readonly decoded: number;
  readonly longestMs: number;
}

/**
 * Decodes `images` mutated copies of `originals`, by `seed`, as the loader does.
 *
 * @throws {Error} for anything but an {@linkcode UnreadableImageError}, or pixels that do not fit the size.
 */
export async function fuzzImages(
  { images, seed, originals }: { images: number; seed: number; originals: readonly Uint8Array[] },
): Promise<ImageReport> {
  const draw = drawsOf(seed);
  const report = { images: 0, refused: 0, decoded: 0, longestMs: 0 };
  for (; report.images < images; report.images++) {
    const bytes = mutated(originals[draw(originals.length)], draw, originals[draw(originals.length)]);
    const start = performance.now();
    try {
      const { width, height, pixels } = await decodeImage(bytes);
      if (pixels.byteLength !== width * height * 3 || Math.max(width, height) > 1024) {
        throw new Error(`image ${report.images} of seed ${seed}: ${width} x ${height} in ${pixels.byteLength} bytes`);
      }
      report.decoded++;
    } catch (error) {
      if (!(error instanceof UnreadableImageError)) throw error;
      report.refused++;
    }
    report.longestMs = Math.max(report.longestMs, performance.now() - start);
  }
  return report;
}

/** One small picture in each format that the loader reads. */
export async function originalImages(): Promise<Uint8Array[]> {
  const { default: sharp } = await import("sharp");
  const width = 40, height = 30, draw = drawsOf(1);
  const raw = Uint8Array.from({ length: width * height * 3 }, (_, i) => (i * 7 + draw(32)) & 255);
  const picture = () => sharp(raw, { raw: { width, height, channels: 3 } });
  const made = [
    picture().png(),
    picture().png({ palette: true }),
    picture().jpeg(),
    picture().jpeg({ progressive: true }),
    picture().webp(),
    picture().webp({ lossless: true }),
    picture().gif(),
    picture().tiff(),
    picture().avif(),
    picture().withMetadata({ orientation: 6 }).jpeg(),
  ];
  return await Promise.all(made.map(async (image) => new Uint8Array(await image.toBuffer())));
}

if (import.meta.main) {
  const { frames, images, seed } = parseArgs(Deno.args, { string: ["frames", "images", "seed"] });
  const start = Number(seed ?? 1);
  if (images === undefined || frames !== undefined) {
    const count = Number(frames ?? 1_000_000);
    const { refused, accepted, longestMs, mostBytes } = fuzzFrames({
      frames: count,
      seed: start,
      frameMsMax: frameLimits.frameMsMax,
    });
    const greetings = fuzzGreetings({ count: Math.ceil(count / 10), seed: start });
    console.log(
      `${count} frames of seed ${start}: ${refused} refused, ${accepted} let in; longest ${longestMs.toFixed(2)} ms, ` +
        `most memory ${(mostBytes / 2 ** 20).toFixed(1)} MiB; of ${
          Math.ceil(count / 10)
        } greetings ${greetings} refused`,
    );
  }
  if (images !== undefined) {
    const report = await fuzzImages({ images: Number(images), seed: start, originals: await originalImages() });
    console.log(
      `${report.images} images of seed ${start}: ${report.refused} refused, ${report.decoded} decoded; ` +
        `longest ${report.longestMs.toFixed(0)} ms`,
    );
  }
}
