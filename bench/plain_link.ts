/**
 * A link over one WebSocket without what guards those of a run: no admission, no credit, no bounds, no proof of who
 * connects. Messages are packed, framed, filled up and checked against their schemas as there. For benchmarks on loopback
 * that tell what the guards cost.
 */
import { Assembler } from "../wire/assembler.ts";
import { batchOf, framesIn, lateBelow, lateFrom } from "../wire/batch.ts";
import { decode, prepare, write } from "../wire/codec.ts";
import { frameBytesMax, frameKind, frameRoom, framesOf } from "../wire/frames.ts";
import { Inbox, type Link } from "../wire/link.ts";
import type { Message } from "../wire/messages.ts";

class PlainLink extends Inbox implements Link {
  readonly #assembler = new Assembler(Infinity);

  /** @param dialled Whether this end has connected, so that its frames may leave late. */
  constructor(private readonly socket: WebSocket, readonly peer: string, private readonly dialled: boolean) {
    super();
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#take(new Uint8Array(data));
    socket.onclose = () => {
      this.end(`connection to ${peer} was lost`);
      this.settle();
    };
  }

  get bufferedBytes(): number {
    return this.socket.bufferedAmount;
  }

  #take(bytes: Uint8Array<ArrayBuffer>): void {
    const isBatch = !this.#assembler.underway && bytes[0] === frameKind.batch;
    for (const frame of isBatch ? framesIn(bytes) : [bytes]) {
      const packed = this.#assembler.take(frame);
      if (packed !== undefined) this.deliver(decode(packed.head, packed.tensors));
    }
  }

  send(message: Message): void {
    this.assertOpen(this.peer);
    // A socket copies what it is given before send() returns.
    for (const frame of framesOf(write(prepare(message), { room: frameRoom }), frameBytesMax, { room: true })) {
      const isLate = this.dialled && (frame[0] & 15) === frameKind.whole && frame.byteLength > lateFrom &&
        frame.byteLength < lateBelow;
      this.socket.send(isLate ? batchOf([frame], lateBelow) : frame);
    }
  }

  close(reason: string): void {
    if (this.end(reason)) this.socket.close();
  }
}

/** Connects to {@linkcode listenPlain}. */
export async function connectPlain(url: string, { id, peer }: { id: string; peer: string }): Promise<Link> {
  const socket = new WebSocket(`${url}${id}`);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error(`${peer} does not listen at ${url}`));
  });
  return new PlainLink(socket, peer, true);
}

/** Listens on loopback; whoever connects is believed. */
export function listenPlain(onLink: (link: Link) => void): { readonly url: string; close(): Promise<void> } {
  const links = new Set<Link>();
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    const link = new PlainLink(socket, new URL(request.url).pathname.slice(1), false);
    links.add(link);
    socket.onopen = () => onLink(link);
    return response;
  });
  return {
    url: `ws://127.0.0.1:${server.addr.port}/`,
    async close() {
      for (const link of links) link.close("the benchmark is over");
      await Promise.all([...links].map(({ ended }) => ended));
      await server.shutdown();
    },
  };
}
