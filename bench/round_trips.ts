/**
 * How long a message takes to a listener and a short answer back, by the message's size: what an exchange of statistics or
 * scores waits for. Our link beside the bare WebSocket that it goes over, in turns. `deno task bench round_trips`.
 */
import { connectSocket, listen } from "../wire/socket_link.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import type { Entry } from "./report.ts";
import { summarize } from "./statistics.ts";
import { finish, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

/** Bytes of a message's tensor; the statistics of 200 channels are 1,600, those of 3,000 are 24,000. */
const SIZES = [512, 1_600, 4_096, 24_000, 49_152, 65_536, 131_072, 262_144];
const ROUNDS = 31;

/** Sends one message and waits for the answer. */
type Trip = (values: Float32Array<ArrayBuffer>) => Promise<void>;

async function openLink(): Promise<{ trip: Trip; close: () => Promise<void> }> {
  let answered: () => void = () => {};
  const listener = listen({ id: "shard", token: "bench" }, (link) => {
    link.onMessage = (message) => {
      if (message.type !== "weights-part") throw new TypeError(`"${message.type}" was not sent`);
      const [first] = f32FromWire(message.tensor);
      link.send({ type: "pong", count: first });
    };
  });
  const link = await connectSocket(listener.url, { id: "trainer", token: "bench" });
  link.onMessage = (message) => message.type === "pong" && message.count === 7 && answered();
  return {
    trip: (values) =>
      new Promise((resolve) => {
        answered = resolve;
        link.send({ type: "weights-part", name: "statistics", tensor: toWire(values) });
      }),
    async close() {
      link.close("done");
      await listener.close();
    },
  };
}

async function openBare(): Promise<{ trip: Trip; close: () => Promise<void> }> {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
    const { socket, response } = Deno.upgradeWebSocket(request, { idleTimeout: 0 });
    socket.binaryType = "arraybuffer";
    socket.onmessage = ({ data }) => socket.send(new Uint8Array(data, 0, 4));
    return response;
  });
  const socket = new WebSocket(`ws://127.0.0.1:${server.addr.port}/`);
  socket.binaryType = "arraybuffer";
  await new Promise((resolve) => socket.onopen = resolve);
  return {
    trip: (values) =>
      new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) =>
          new Float32Array(data)[0] === 7 ? resolve() : reject(new Error("the answer is not what was sent"));
        socket.send(new Uint8Array(values.buffer));
      }),
    async close() {
      socket.close();
      await server.shutdown();
    },
  };
}

if (import.meta.main) {
  const arms = { "WebSocket": await openBare(), "ours": await openLink() };
  const entries: Entry[] = [];
  for (const bytes of SIZES) {
    const values = new Float32Array(bytes / 4).fill(7);
    const times: Record<string, number[]> = {};
    for (let round = -3; round < ROUNDS; round++) {
      for (const [arm, { trip }] of Object.entries(arms)) {
        const start = performance.now();
        await trip(values);
        if (round >= 0) (times[arm] ??= []).push(performance.now() - start);
      }
    }
    const common = { suite: "round trips", name: `${bytes} bytes there, a short answer back`, bytes } as const;
    for (const [arm, samples] of Object.entries(times)) {
      entries.push({ ...common, arm, unit: "ms", better: "lower", error: 0, ...summarize(samples) });
    }
  }
  for (const { close } of Object.values(arms)) await close();
  console.log(table(
    ["round trip", "arm", "median [least, greatest]"],
    entries.map(({ name, arm, median, min, max }) => [name, arm, `${short(median)} [${short(min)}, ${short(max)}] ms`]),
  ));
  await finish(suiteOptions(Deno.args), { entries });
}
