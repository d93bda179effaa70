/** A client that speaks HTTP and WebSocket byte by byte, for tests of what a browser's or Deno's own would never send. */
import { deadline } from "@std/async/deadline";
import { Identity } from "../../wire/identity.ts";

/** Kinds of WebSocket frames, RFC 6455 section 5.2. */
export const opcodes = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const;

/** One frame as a client sends it, masked unless it is not to be. */
export function frame(
  opcode: number,
  payload: Uint8Array,
  { masked = true, final = true, reserved = 0 } = {},
): Uint8Array<ArrayBuffer> {
  const length = payload.byteLength, mask = [1, 2, 3, 4];
  const short = length < 126 ? [length] : [126, length >> 8, length & 255];
  short[0] |= masked ? 0x80 : 0;
  const bytes = masked ? payload.map((byte, at) => byte ^ mask[at % 4]) : payload;
  return new Uint8Array([(final ? 0x80 : 0) | reserved | opcode, ...short, ...(masked ? mask : []), ...bytes]);
}

/** The head of an upgrade request of actor `right` to `left`, with a token of `secret`. */
export function upgradeRequest(secret: string): string {
  const authorization = Identity.ofSecret(secret, { actor: "right", role: "actor", attempt: null }).header("left");
  const lines = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"];
  const key = `Sec-WebSocket-Key: ${btoa("0123456789abcdef")}`;
  return ["GET / HTTP/1.1", "Host: left", ...lines, key, `Authorization: ${authorization}`, "", ""].join("\r\n");
}

/** A TCP connection to a listener here. */
export class RawClient {
  readonly #buffer = new Uint8Array(65_536);

  private constructor(private readonly connection: Deno.TcpConn) {}

  static async connect(port: number): Promise<RawClient> {
    return new RawClient(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async send(data: string | Uint8Array): Promise<void> {
    let bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    while (bytes.byteLength > 0) bytes = bytes.subarray(await this.connection.write(bytes));
  }

  /** The next bytes as characters; empty when the other side has ended the connection. */
  async read(): Promise<string> {
    const count = await deadline(this.connection.read(this.#buffer), 15_000).catch((error) => {
      if (error instanceof Deno.errors.ConnectionReset) return null;
      throw error;
    });
    return String.fromCharCode(...this.#buffer.subarray(0, count ?? 0));
  }

  /** Reads until `text` has come, or the end. */
  async readUntil(text: string): Promise<string> {
    let all = "";
    while (!all.includes(text)) {
      const more = await this.read();
      if (more === "") return all;
      all += more;
    }
    return all;
  }

  close(): void {
    this.connection.close();
  }
}
