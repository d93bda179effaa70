/**
 * A cable that loses, delays and throttles packets, for kernels without netem: two network devices whose packets a process
 * of its own carries from one to the other. Losses are drawn by a seed; who is hit by them depends on when packets come.
 */
import { deadline } from "@std/async/deadline";
import { randomStream } from "../data/random.ts";

/** What is wrong with a cable, in each direction. */
export interface Flaws {
  /** Share of packets that are lost. */
  readonly loss: number;
  /** Time that each packet takes. */
  readonly delayMs: number;
  readonly bitsPerSecond: number;
  readonly seed: number;
}

/** Packets that a cable has carried and lost, both directions together. */
export interface Traffic {
  readonly carried: number;
  readonly lost: number;
}

const device = "/dev/net/tun";
const readyMs = 20_000;

/** A cable whose ends are two network devices of these names. */
export class LossyCable {
  private constructor(private readonly child: Deno.ChildProcess, private readonly output: LineReader) {}

  /** Makes both ends in the network of this process; they are dead without it. */
  static async lay(ends: readonly [string, string], flaws: Flaws): Promise<LossyCable> {
    const config = new URL("../deno.json", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        `--config=${config}`,
        import.meta.filename ?? "",
        JSON.stringify({ ends, flaws }),
      ],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const output = new LineReader(child.stdout);
    const line = await deadline(output.next(), readyMs);
    if (line !== "ready") throw new Error(`laying a cable from ${ends[0]} to ${ends[1]}: it said ${line}`);
    return new LossyCable(child, output);
  }

  /** Takes the cable away; what it has carried. */
  async end(): Promise<Traffic> {
    await this.child.stdin.close();
    const line = await this.output.next();
    await this.child.status;
    return JSON.parse(line) as Traffic;
  }
}

/** The lines of a stream, one by one; "" after the last. */
class LineReader {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor(stream: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  }

  async next(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) break;
      this.#text += value;
    }
    const [line, ...rest] = this.#text.split("\n");
    this.#text = rest.join("\n");
    return line;
  }
}

/** What the C library does here. */
const symbols = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", "buffer"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
} as const;

type Library = Deno.DynamicLibrary<typeof symbols>["symbols"];

const readWrite = 2;
/** TUNSETIFF: the file becomes the device of the name in its argument. */
const becomeDevice = 0x400454can;
/** IFF_TUN | IFF_NO_PI: bare IP packets. */
const barePackets = 0x1001;
const packetBytesMax = 65_536;
/** Longest queue in front of a slow cable. */
const queueMs = 500;

/** Makes a network device; the file whose reads are the packets that are sent to it. */
function openDevice(library: Library, name: string): number {
  const file = library.open(new TextEncoder().encode(`${device}\0`), readWrite);
  const request = new Uint8Array(40);
  new TextEncoder().encodeInto(name, request);
  new DataView(request.buffer).setUint16(16, barePackets, true);
  if (file < 0 || library.ioctl(file, becomeDevice, request) < 0) {
    throw new Error(
      `making the network device ${name} needs ${device} and CAP_NET_ADMIN, found ${file < 0 ? "no file" : "no right"}`,
    );
  }
  return file;
}

/** Carries packets one way until the process ends. */
async function carry(
  library: Library,
  { from, to, flaws, index, count }: {
    from: number;
    to: number;
    flaws: Flaws;
    /** Of this direction. */
    index: number;
    count: (fate: keyof Traffic) => void;
  },
): Promise<void> {
  const random = randomStream({ seed: flaws.seed, purpose: "cable", indices: [index] });
  let freeAt = 0;
  while (true) {
    const packet = new Uint8Array(packetBytesMax);
    const length = Number(await library.read(from, packet, BigInt(packet.length)));
    // A device that is not up yet has nothing to read.
    if (length <= 0) await new Promise((resolve) => setTimeout(resolve, 10));
    if (length <= 0) continue;
    const now = performance.now();
    if (random.uniform() < flaws.loss || freeAt - now > queueMs) {
      count("lost");
      continue;
    }
    freeAt = Math.max(freeAt, now) + length * 8_000 / flaws.bitsPerSecond;
    count("carried");
    setTimeout(() => library.write(to, packet, BigInt(length)), freeAt - now + flaws.delayMs);
  }
}

if (import.meta.main) {
  const { ends, flaws }: { ends: readonly [string, string]; flaws: Flaws } = JSON.parse(Deno.args[0]);
  const library = Deno.dlopen("libc.so.6", symbols).symbols;
  const [left, right] = ends.map((name) => openDevice(library, name));
  const traffic = { carried: 0, lost: 0 };
  const count = (fate: keyof Traffic) => traffic[fate]++;
  for (const [index, [from, to]] of [[left, right], [right, left]].entries()) {
    carry(library, { from, to, flaws, index, count });
  }
  console.log("ready");
  for await (const _ of Deno.stdin.readable);
  console.log(JSON.stringify(traffic));
  Deno.exit(0);
}
