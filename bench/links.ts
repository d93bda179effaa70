/**
 * Throughput of an actor's link (encode, send, receive, decode) beside that of the bare WebSocket below it, between two
 * processes on loopback, in turns; how long small messages take beside 64 MiB in flight; and sums of 64 MB over 2 and 4
 * processes through one sync shard. Every sample counts what arrived. `deno task bench links [--part FILE]`.
 */
import { linesOf } from "../api/gpu_protocol.ts";
import { syncBehavior } from "../actors/sync.ts";
import { listen } from "../wire/socket_link.ts";
import type { Link } from "../wire/link.ts";
import { f32FromWire } from "../wire/tensor.ts";
import type { Entry } from "./report.ts";
import { roundOrder, summarize } from "./statistics.ts";
import { finish, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

const ROUNDS = 7, BEATS = 200, SAMPLE_BYTES = 128 * 2 ** 20, REDUCED_MB = 64, SLICE_BYTES = 4 * 2 ** 20;

/** Another process, told what to do by lines. */
class Peer {
  readonly #process: Deno.ChildProcess;
  readonly #lines: AsyncGenerator<string>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor() {
    const script = new URL("./links_peer.ts", import.meta.url).href;
    this.#process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-prompt", "--allow-net=127.0.0.1,localhost", "--allow-env", script],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = linesOf(this.#process.stdout);
    this.#writer = this.#process.stdin.getWriter();
  }

  async tell(line: string): Promise<void> {
    await this.#writer.write(new TextEncoder().encode(`${line}\n`));
  }

  async answer(): Promise<string> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the other process has ended; its messages are above");
    return value;
  }

  async ask(line: string): Promise<string> {
    await this.tell(line);
    return await this.answer();
  }

  async close(): Promise<void> {
    await this.#writer.close();
    await this.#process.status;
  }
}

/** Counts bytes that arrive; `wait` resolves with milliseconds from its call until they are all there. */
class Arrivals {
  #left = 0;
  #arrived: (() => void) | undefined;

  add(bytes: number): void {
    this.#left -= bytes;
    if (this.#left <= 0) this.#arrived?.();
  }

  async wait(bytes: number, begin: () => Promise<void>): Promise<number> {
    this.#left = bytes;
    const all = new Promise<void>((resolve) => this.#arrived = resolve);
    const start = performance.now();
    await begin();
    await all;
    if (this.#left !== 0) throw new Error(`${-this.#left} bytes more than were sent arrived`);
    return performance.now() - start;
  }
}

async function throughput(): Promise<Entry[]> {
  const arrivals = { raw: new Arrivals(), link: new Arrivals() };
  const listener = listen({ id: "bench", token: "bench" }, (link) => {
    link.onMessage = (message) => {
      if (message.type !== "weights-part") return;
      const values = f32FromWire(message.tensor);
      if (values[0] !== 1.5 || values[values.length - 1] !== 1.5) throw new Error("a message came out wrong");
      arrivals.link.add(values.byteLength);
    };
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request);
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => arrivals.raw.add(data.byteLength);
    return response;
  });
  const peer = new Peer();
  await peer.ask(`raw ws://127.0.0.1:${server.addr.port}/`);
  await peer.ask(`link ${listener.url}`);
  const entries: Entry[] = [];
  for (const messageBytes of [64 * 1024, 2 ** 20, 16 * 2 ** 20]) {
    const rates = { raw: [] as number[], link: [] as number[] };
    const arms = ["raw", "link"] as const;
    const count = SAMPLE_BYTES / messageBytes;
    for (let round = -1; round < ROUNDS; round++) {
      for (const index of roundOrder(arms.length, round + 1)) {
        const arm = arms[index];
        const ms = await arrivals[arm].wait(SAMPLE_BYTES, () => peer.tell(`send ${arm} ${count} ${messageBytes}`));
        await peer.answer();
        if (round >= 0) rates[arm].push(SAMPLE_BYTES / 1e3 / ms);
      }
    }
    for (const arm of arms) {
      entries.push({
        suite: "links",
        name: `messages of ${messageBytes / 1024} KiB, 2 processes`,
        arm: arm === "raw" ? "WebSocket" : "ours",
        unit: "MB/s",
        better: "higher",
        error: 0,
        bytes: SAMPLE_BYTES,
        ...summarize(rates[arm]),
      });
    }
  }
  await peer.close();
  await listener.close();
  await server.shutdown();
  return entries;
}

/** How long small messages take while 64 MiB wait on the same link: urgent ones, ones that keep their order, and in peace. */
async function latencies(): Promise<Entry[]> {
  let times: number[] = [], arrived = () => {};
  const listener = listen({ id: "bench", token: "bench" }, (link) => {
    link.onMessage = (message) => {
      const at = message.type === "heartbeat" ? message.handled : message.type === "pong" ? message.count : undefined;
      if (at === undefined) return;
      times.push(performance.timeOrigin + performance.now() - at / 1e3);
      if (times.length === BEATS) arrived();
    };
  });
  const peer = new Peer();
  await peer.ask(`link ${listener.url}`);
  const inFlight = 64 * 2 ** 20;
  const arms = [
    { arm: "urgent", command: `beat heartbeat ${BEATS} ${inFlight}` },
    { arm: "in order", command: `beat pong ${BEATS} ${inFlight}` },
    { arm: "urgent, nothing in flight", command: `beat heartbeat ${BEATS} 0` },
  ];
  const found = arms.map(() => ({ p50: [] as number[], p99: [] as number[] }));
  for (let round = -1; round < ROUNDS; round++) {
    for (const index of roundOrder(arms.length, round + 1)) {
      times = [];
      const all = new Promise<void>((resolve) => arrived = resolve);
      await peer.ask(arms[index].command);
      await all;
      times.sort((a, b) => a - b);
      if (round < 0) continue;
      found[index].p50.push(times[Math.floor(BEATS * 0.5)]);
      found[index].p99.push(times[Math.floor(BEATS * 0.99)]);
    }
  }
  await peer.close();
  await listener.close();
  return arms.flatMap(({ arm }, index) =>
    (["p50", "p99"] as const).map((percentile): Entry => ({
      suite: "links",
      name: `small message, 64 MiB in flight, ${percentile}`,
      arm,
      unit: "ms",
      better: "lower",
      error: 0,
      bytes: inFlight,
      ...summarize(found[index][percentile]),
    }))
  );
}

/** Sums over `processes` processes, each one replica, through a shard in this process. */
async function reductions(processes: number): Promise<Entry> {
  const behavior = syncBehavior();
  let [state] = behavior.init();
  const links = new Map<string, Link>();
  const listener = listen({ id: "sync", token: "bench" }, (link) => {
    links.set(link.peer, link);
    link.onMessage = (message) => {
      const [next, effects] = behavior.handle(state, message, link.peer);
      state = next;
      for (const effect of effects) if (effect.kind === "send") links.get(effect.to)?.send(effect.message);
    };
  });
  const peers = Array.from({ length: processes }, () => new Peer());
  await Promise.all(peers.map((peer) => peer.ask(`link ${listener.url}`)));
  const samples: number[] = [];
  for (let round = -1; round < ROUNDS; round++) {
    const answers = await Promise.all(
      peers.map((peer, id) => peer.ask(`reduce ${id} ${processes} ${REDUCED_MB} ${SLICE_BYTES}`)),
    );
    if (round >= 0) samples.push(Math.max(...answers.map((text) => Number(text.split(" ")[1]))));
  }
  await Promise.all(peers.map((peer) => peer.close()));
  await listener.close();
  return {
    suite: "links",
    name: `sum of ${REDUCED_MB} MB over ${processes} processes, one shard`,
    arm: "ours",
    unit: "ms",
    better: "lower",
    error: 0,
    bytes: REDUCED_MB * 1e6,
    ...summarize(samples),
  };
}

if (import.meta.main) {
  const entries = [...await throughput(), ...await latencies(), await reductions(2), await reductions(4)];
  const rows = entries.map(({ name, arm, median, min, max, unit }) => {
    const raw = entries.find((entry) => entry.name === name && entry.arm === "WebSocket");
    const share = raw === undefined || arm !== "ours" ? "" : `${(median / raw.median).toFixed(2)} of the WebSocket`;
    return [name, arm, `${short(median)} [${short(min)}, ${short(max)}] ${unit}`, share];
  });
  console.log(table(["links", "arm", "median [least, greatest]", ""], rows));
  await finish(suiteOptions(Deno.args), { entries });
}
