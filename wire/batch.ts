/**
 * Batches: whole messages that wait for the same credit leave in one frame, because a frame costs both sockets more than a
 * small message does. A batch is a head of 4 bytes, then each message as the frame that it would be alone, behind its
 * length. Those frames are multiples of 4 bytes long, so that tensors stay where they can be read without a copy. A length
 * of 0 says that the rest is filling. It knows no socket and decodes nothing.
 */
import { WireError } from "./error.ts";
import { frameKind } from "./frames.ts";

/**
 * Largest batch: four messages of 64 KiB, with what surrounds their tensors. Who keeps a tensor of a batch keeps all of it
 * in memory, so it is hardly larger than a message that is whole in its frame may be.
 */
export const batchBytesMax = 264 * 1024;
/** Most messages of a batch, which its receiver handles in one go. */
export const batchMessagesMax = 64;
/** Bytes of a batch's head, and of the length before each message. */
export const batchHeadBytes = 4, batchLengthBytes = 4;

/**
 * Frames that a client's socket sends late unless they are filled up. Deno's client writes the head of a frame above 1 KiB
 * by itself and leaves Nagle's algorithm on: the rest waits for the head's acknowledgement, 40 ms on Linux, unless it fills
 * a segment. That takes 1,448 bytes on Ethernet and 65,483 between processes of one machine, whatever address they use
 * (2.9.6; measured by `bench/round_trips.ts`).
 */
export const lateFrom = 1_000, lateBelow = 64 * 1024;

let scratch: Uint8Array<ArrayBuffer> | undefined;

/**
 * The batch of `frames` of whole messages, at most {@linkcode batchMessagesMax} that fit into {@linkcode batchBytesMax}
 * together, filled up to `bytesMin`; valid until the next call.
 */
export function batchOf(frames: Iterable<Uint8Array>, bytesMin = 0): Uint8Array<ArrayBuffer> {
  // Memory that is used again is in the processor's caches, and its pages are there.
  scratch ??= new Uint8Array(batchBytesMax);
  const view = new DataView(scratch.buffer);
  view.setUint32(0, frameKind.batch, true);
  let end = batchHeadBytes;
  for (const frame of frames) {
    view.setUint32(end, frame.byteLength, true);
    scratch.set(frame, end + batchLengthBytes);
    end += batchLengthBytes + frame.byteLength;
  }
  if (end >= bytesMin) return scratch.subarray(0, end);
  // What an earlier message has left there is not for this peer.
  scratch.fill(0, end, bytesMin);
  return scratch.subarray(0, bytesMin);
}

/**
 * The frames in a batch, as views of it.
 *
 * @throws {WireError} for a batch that is too large or malformed, holds too many messages, or anything but whole ones.
 */
export function* framesIn(batch: Uint8Array<ArrayBuffer>): Generator<Uint8Array<ArrayBuffer>> {
  const { byteLength } = batch;
  if (byteLength > batchBytesMax) throw new WireError(`batch of ${byteLength} bytes, at most ${batchBytesMax}`);
  const view = new DataView(batch.buffer, batch.byteOffset, byteLength);
  let at = batchHeadBytes, count = 0;
  do {
    const start = at + batchLengthBytes;
    const length = start < byteLength ? view.getUint32(at, true) : 0;
    if (length === 0 && count > 0 && start < byteLength) return;
    if (++count > batchMessagesMax) throw new WireError(`batch of more than ${batchMessagesMax} messages`);
    if (length === 0 || length > byteLength - start) {
      throw new WireError(`batch of ${byteLength} bytes is malformed: no message of the told length at byte ${at}`);
    }
    const frame = batch.subarray(start, start + length);
    if ((frame[0] & 15) !== frameKind.whole) {
      throw new WireError(`batch holds a frame of kind ${frame[0]}; it may hold whole messages only`);
    }
    yield frame;
    at = start + length;
  } while (at < byteLength);
}
