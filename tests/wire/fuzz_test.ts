import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  fuzzFrames,
  fuzzGreetings,
  fuzzImages,
  originalImages,
  piecesOf,
  receiverOf,
  samples,
} from "../../tools/fuzz.ts";
import { encode } from "../../wire/codec.ts";
import { WireError } from "../../wire/error.ts";
import { framesOf } from "../../wire/frames.ts";

Deno.test("100,000 mutated frames crash nothing and take no memory over 64 MiB each", () => {
  const { frames, refused, accepted } = fuzzFrames({ frames: 100_000, seed: 1 });
  assertEquals(refused + accepted, frames);
  assert(refused > 50_000 && accepted > 500, `${refused} refused, ${accepted} let in`);
  assert(fuzzGreetings({ count: 10_000, seed: 1 }) > 5_000);
});

Deno.test("every truncation of a valid frame is refused, at every byte of every sample", () => {
  let cuts = 0;
  for (const message of samples) {
    const [frame] = [...framesOf({ head: encode(message) })];
    assertEquals(receiverOf(message.type)(frame.slice())?.type, message.type);
    for (let length = 0; length < frame.byteLength; length++) {
      assertThrows(() => receiverOf(message.type)(frame.slice(0, length)), WireError);
      cuts++;
    }
  }
  assert(cuts > 1_500, String(cuts));
});

Deno.test("a long message that is cut off anywhere among its pieces is never delivered", () => {
  for (const message of samples) {
    for (const bytesMax of [24, 4_096]) {
      const pieces = piecesOf(message, bytesMax);
      const receive = receiverOf(message.type);
      for (const piece of pieces.slice(0, -1)) assertEquals(receive(piece.slice()), undefined);
      assertEquals(receive(pieces[pieces.length - 1].slice()), message);
    }
  }
});

Deno.test("an announcement of 512 MiB takes no memory before its bytes come", () => {
  const receive = receiverOf("contribute");
  const announcement = new Uint8Array(9);
  announcement[0] = 2;
  new DataView(announcement.buffer).setBigUint64(1, 512n * 1024n * 1024n, true);
  const before = Deno.memoryUsage().external;
  receive(announcement);
  assert(Deno.memoryUsage().external - before < 1024 * 1024);
  const [first] = framesOf(
    { head: encode({ type: "contribute", epoch: 0, key: "k", slots: 1, low: 0, high: 1, values: samplesTensor() }) },
  );
  receive(first.slice(1 + (first[0] >> 4)));
  assert(Deno.memoryUsage().external - before <= 64 * 1024 * 1024 + 65_536);
});

Deno.test("mutated images are decoded or refused, and the process lives", async () => {
  const { images, refused, decoded } = await fuzzImages({ images: 400, seed: 1, originals: await originalImages() });
  assertEquals(refused + decoded, images);
  assert(refused > 50 && decoded > 10, `${refused} refused, ${decoded} decoded`);
});

function samplesTensor() {
  return { dtype: "f32" as const, shape: [1], bytes: new Uint8Array(4) };
}
