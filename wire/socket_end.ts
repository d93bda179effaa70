/**
 * One end of a link over WebSockets. It begins with one connection. The first message that is large adds a second one, over
 * which from then on everything of its direction travels in order, but for urgent messages and credit: they keep the first
 * to themselves. It is told how to get the second connection and knows no address and no token.
 */
import type { Admit } from "./admission.ts";
import { Assembler } from "./assembler.ts";
import { framesIn } from "./batch.ts";
import { decode, packedBytes, prepare, type Prepared, write } from "./codec.ts";
import { Ledger } from "./credit.ts";
import { WireError } from "./error.ts";
import { frameKind } from "./frames.ts";
import { typeOf } from "./head.ts";
import { keepAlive, keepAliveMs } from "./keep_alive.ts";
import { errorText, Inbox, type Link, type LinkLimits } from "./link.ts";
import type { Message } from "./messages.ts";
import { Outbox } from "./outbox.ts";
import { TailPusher } from "./tail.ts";
import { urgentBytesMax, urgentTypes } from "./urgent.ts";

/** How long an ending link waits for what is still to come or to leave, without any progress. */
const lingerMs = 5_000;
/** Close code of a link that one side ends. */
const endCode = 4000;

/** Parts of a {@linkcode SocketLink}. */
export interface EndOptions {
  peer: string;
  pulse: boolean;
  bounds: Required<LinkLimits>;
  admit: Admit | undefined;
  /** Makes the bulk connection; absent at a listener, which has to be called. */
  dial?: () => Promise<WebSocket>;
  /** Whether the end of what is sent must be pushed, as that of a client over TLS. @default false */
  pushes?: boolean;
  /** Time between two signs that the connections are in use. @default 15,000 */
  keepAliveMs?: number;
}

/** A link whose greetings are over. */
export class SocketLink extends Inbox implements Link {
  readonly peer: string;
  readonly pulse: boolean;
  readonly #options: EndOptions;
  readonly #ledger = new Ledger();
  readonly #outbox: Outbox;
  readonly #tail: TailPusher | undefined;
  readonly #endKeepAlive: () => void;
  readonly #assemblers: { main: Assembler; bulk: Assembler };
  #bulk: WebSocket | undefined;
  #bulkAsked = false;
  /** What came over the bulk connection before the first one told that the peer has moved there. */
  #ahead: Uint8Array<ArrayBuffer>[] | undefined = [];
  /** Whether a batch is being taken apart. */
  #inBatch = false;
  /** Why the link ends once nothing is left to leave (own end) or to come (the peer's). */
  #ending: string | undefined;
  #lingering: ReturnType<typeof setTimeout> | undefined;
  #progress = 0;

  constructor(private readonly main: WebSocket, options: EndOptions) {
    super();
    const { peer, pulse, bounds, admit } = this.#options = options;
    this.peer = peer;
    this.pulse = pulse;
    const assembler = () =>
      new Assembler(
        bounds.messageBytesMax,
        admit && ((beginning, byteLength) => admit(typeOf(beginning), byteLength)),
      );
    this.#assemblers = { main: assembler(), bulk: assembler() };
    const bulk = () => this.#bulk, sockets = () => [main, this.#bulk];
    this.#tail = options.pushes ? new TailPusher(sockets) : undefined;
    this.#endKeepAlive = keepAlive(sockets, options.keepAliveMs ?? keepAliveMs);
    this.#outbox = new Outbox({
      main,
      get bulk() {
        return bulk();
      },
      late: options.dial !== undefined,
      wantBulk: () => this.#wantBulk(),
    });
    main.onmessage = ({ data }) => this.#take(data, (bytes) => this.#receiveMain(bytes));
    main.onerror = (event) => this.#lost(event instanceof ErrorEvent ? event.message : "connection failed");
    main.onclose = ({ reason }) => this.#lost(reason || `connection to ${peer} was lost`);
  }

  get bufferedBytes(): number {
    return this.main.bufferedAmount + (this.#bulk?.bufferedAmount ?? 0) + this.#outbox.bytes;
  }

  /** Bytes that wait in the sockets alone, where nothing bounds them but credit. */
  get socketBytes(): number {
    return this.main.bufferedAmount + (this.#bulk?.bufferedAmount ?? 0);
  }

  send(message: Message): void {
    this.assertOpen(this.peer);
    const prepared = prepare(message), { bytes, type } = prepared;
    const { messageBytesMax, bufferedBytesMax, bufferedMessagesMax } = this.#options.bounds;
    // What is known is an upper bound; only where that is too much must the message be written to see.
    const byteLength = bytes > messageBytesMax ? packedBytes(write(prepared)) : bytes;
    if (byteLength > messageBytesMax) {
      throw new WireError(`sending "${type}" to ${this.peer}: ${byteLength} bytes are more than ${messageBytesMax}`);
    }
    const waiting = this.bufferedBytes, count = this.#outbox.length;
    if (waiting + byteLength > bufferedBytesMax || count >= bufferedMessagesMax) {
      const reason = `${this.peer} does not read: ${waiting} bytes and ${count} messages wait, at most ` +
        `${bufferedBytesMax} and ${bufferedMessagesMax} may`;
      this.#fail(reason);
      throw new WireError(`sending "${type}": ${reason}`);
    }
    // The socket may be closing though its close event has not come yet; sending would be silently dropped.
    if (this.main.readyState !== WebSocket.OPEN) {
      throw new WireError(`sending "${type}" to ${this.peer}: the connection is closing`);
    }
    if (isUrgent(prepared)) {
      this.#outbox.sendUrgent(prepared);
      return this.#tail?.sent();
    }
    this.#outbox.put(prepared);
    this.#pump();
  }

  close(reason: string): void {
    if (this.closedReason !== undefined) return;
    this.end(reason);
    if (this.#outbox.length === 0) return this.#shut(reason);
    this.#linger(reason, () => this.#shut(reason));
  }

  /** Takes the bulk connection, made by the client; anything but the first is refused. */
  addBulk(socket: WebSocket): void {
    if (this.#bulk !== undefined || this.main.readyState !== WebSocket.OPEN) return socket.close(endCode, "not wanted");
    this.#bulk = socket;
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => this.#take(data, (bytes) => this.#receiveBulk(bytes));
    socket.onerror = () => this.#fail(`bulk connection to ${this.peer} was lost`);
    socket.onclose = ({ code, reason }) => this.#bulkClosed(code, reason);
    this.#pump();
  }

  protected override drained(): void {
    // A batch is taken when all its messages are.
    if (this.#inBatch) return;
    const bytes = this.#ledger.due();
    if (bytes === 0 || this.main.readyState !== WebSocket.OPEN) return;
    const frame = new Uint8Array(5);
    frame[0] = frameKind.credit;
    new DataView(frame.buffer).setUint32(1, bytes, true);
    this.main.send(frame);
    this.#tail?.sent();
  }

  #wantBulk(): void {
    if (this.#bulkAsked) return;
    this.#bulkAsked = true;
    const { dial } = this.#options;
    if (dial === undefined) return this.main.send(new Uint8Array([frameKind.bulkWanted]));
    dial().then((socket) => this.addBulk(socket), (error) => this.#fail(errorText(error)));
  }

  #pump(): void {
    this.#progress++;
    try {
      this.#outbox.pump();
    } catch (error) {
      return this.#fail(errorText(error));
    }
    this.#tail?.sent();
    if (this.closedReason !== undefined && this.#outbox.length === 0) this.#shut(this.closedReason);
  }

  /** Runs `receive` on a frame; what is wrong with it ends the link. */
  #take(data: unknown, receive: (bytes: Uint8Array<ArrayBuffer>) => void): void {
    // Sent to push out what was sent before, or so that the connection is in use.
    if (data === "") return;
    try {
      if (!(data instanceof ArrayBuffer)) throw new WireError("text frame");
      receive(new Uint8Array(data));
    } catch (error) {
      this.#fail(`bad message from ${this.peer}: ${errorText(error)}`);
    }
  }

  #receiveMain(bytes: Uint8Array<ArrayBuffer>): void {
    const { main } = this.#assemblers;
    if (main.underway) return this.#receive(bytes, main);
    switch (bytes[0]) {
      case frameKind.credit:
        if (bytes.byteLength !== 5) throw new WireError(`credit of ${bytes.byteLength} bytes, needed 5`);
        this.#outbox.grant(new DataView(bytes.buffer).getUint32(1, true));
        return this.#pump();
      case frameKind.bulkWanted:
        if (this.#options.dial === undefined) {
          throw new WireError("a client asked for the bulk connection; it makes it");
        }
        return this.#wantBulk();
      case frameKind.moved:
        return this.#peerMoved();
    }
    if ((bytes[0] & 15) === frameKind.urgent) return this.#receiveUrgent(bytes);
    this.#receive(bytes, main);
  }

  #receiveUrgent(bytes: Uint8Array<ArrayBuffer>): void {
    if (bytes.byteLength > urgentBytesMax + 4) throw new WireError(`urgent message of ${bytes.byteLength} bytes`);
    if (this.closedReason !== undefined) return;
    const packed = this.#assemblers.main.take(bytes);
    if (packed === undefined) return;
    const message = decode(packed.head);
    if (!urgentTypes.has(message.type)) throw new WireError(`"${message.type}" is not urgent, it must wait for credit`);
    this.deliver(message);
  }

  #receiveBulk(bytes: Uint8Array<ArrayBuffer>): void {
    this.#progress++;
    if (this.#ahead === undefined) return this.#receive(bytes, this.#assemblers.bulk);
    this.#ledger.arrived(bytes.byteLength);
    this.#ahead.push(bytes);
  }

  /** From here on the peer's messages come over the bulk connection; some may have come already. */
  #peerMoved(): void {
    const ahead = this.#ahead;
    if (ahead === undefined) throw new WireError("the peer moved to the bulk connection twice");
    this.#ahead = undefined;
    for (const bytes of ahead) this.#assemble(bytes, this.#assemblers.bulk);
  }

  #receive(bytes: Uint8Array<ArrayBuffer>, assembler: Assembler): void {
    this.#ledger.arrived(bytes.byteLength);
    this.#assemble(bytes, assembler);
  }

  #assemble(bytes: Uint8Array<ArrayBuffer>, assembler: Assembler): void {
    if (assembler.underway || bytes[0] !== frameKind.batch) return this.#assembleOne(bytes, assembler);
    this.#inBatch = true;
    for (const frame of framesIn(bytes)) this.#assembleOne(frame, assembler);
    this.#inBatch = false;
    if (!this.holding) this.drained();
  }

  #assembleOne(bytes: Uint8Array<ArrayBuffer>, assembler: Assembler): void {
    // After the own end what comes is taken off the peer's hands, so that it can end too.
    const packed = this.closedReason === undefined ? assembler.take(bytes) : undefined;
    if (packed !== undefined) return this.deliver(decode(packed.head, packed.tensors));
    if (!this.holding) this.drained();
  }

  /** The first connection has ended: what is on its way over the other one still comes. */
  #lost(reason: string): void {
    if (this.closedReason === undefined && this.#bulk?.readyState === WebSocket.OPEN) {
      this.#linger(reason, () => this.#fail(reason));
    } else this.#fail(this.#ending ?? reason);
    this.#settleIfClosed();
  }

  #bulkClosed(code: number, reason: string): void {
    const ended = code === endCode;
    if (this.main.readyState !== WebSocket.OPEN) this.#fail(ended ? reason : this.#ending ?? reason);
    // The peer ends the link: the first connection's end is on its way.
    else if (ended && this.closedReason === undefined) this.#linger(reason, () => this.#fail(reason));
    else this.#fail(`bulk connection to ${this.peer} was lost`);
    this.#settleIfClosed();
  }

  /** Ends the link at once; what waits is forgotten. */
  #fail(reason: string): void {
    this.end(reason);
    this.#shut(this.closedReason ?? reason);
  }

  /** Calls `end` when there was no progress for a while. */
  #linger(reason: string, end: () => void): void {
    this.#ending ??= reason;
    const progress = this.#progress;
    clearTimeout(this.#lingering);
    this.#lingering = setTimeout(() => this.#progress === progress ? end() : this.#linger(reason, end), lingerMs);
  }

  #shut(reason: string): void {
    clearTimeout(this.#lingering);
    this.#tail?.end();
    this.#endKeepAlive();
    this.#outbox.clear();
    // What was sent before is sent before the close. The protocol allows a reason of 123 bytes.
    for (const socket of [this.#bulk, this.main]) {
      if (socket !== undefined && socket.readyState < WebSocket.CLOSING) socket.close(endCode, closeReason(reason));
    }
    this.#settleIfClosed();
  }

  #settleIfClosed(): void {
    const closed = (socket: WebSocket | undefined) => socket === undefined || socket.readyState === WebSocket.CLOSED;
    if (this.closedReason !== undefined && closed(this.main) && closed(this.#bulk)) this.settle();
  }
}

function isUrgent({ type, bytes }: Prepared): boolean {
  return urgentTypes.has(type) && bytes <= urgentBytesMax;
}

/** `reason` cut to the 123 bytes of UTF-8 that a close frame carries. */
function closeReason(reason: string): string {
  const bytes = new TextEncoder().encode(reason);
  return bytes.byteLength <= 123 ? reason : new TextDecoder().decode(bytes.subarray(0, 120)).replace(/\uFFFD+$/, "");
}
