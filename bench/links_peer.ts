/**
 * The other process of `bench/links.ts`: told by lines on stdin what to send, it answers a line when it has done its part.
 * `raw URL`, `link URL`: connects. `send raw|link COUNT BYTES`: sends. `reduce ID OF MEGABYTES SLICE`: takes part in a sum.
 * `beat TYPE COUNT BYTES`: sends COUNT messages of TYPE with the time in them while BYTES wait on the same link.
 */
import { RemotePeers } from "../actors/engine/remote_peers.ts";
import { linesOf } from "../api/gpu_protocol.ts";
import { connectSocket } from "../wire/socket_link.ts";
import type { Link } from "../wire/link.ts";
import { toWire } from "../wire/tensor.ts";

let raw: WebSocket | undefined, link: Link | undefined;

async function connectRaw(url: string): Promise<void> {
  const socket = new WebSocket(url);
  await new Promise((resolve) => socket.onopen = resolve);
  raw = socket;
}

/** Sums `megabytes` of ones with the other processes, in slices under way at once; resolves to milliseconds. */
async function reduce([id, of, megabytes, slice]: number[]): Promise<number> {
  const connected = link;
  if (connected === undefined) throw new TypeError("reduce needs a link");
  const peers = new RemotePeers({
    epoch: 0,
    local: { low: id, high: id + 1 },
    send: (message) => connected.send(message),
    timeoutMs: 60_000,
  });
  connected.onMessage = (message) => peers.receive(message);
  const collective = peers.collective(id, { low: 0, high: of });
  const count = Math.ceil(megabytes * 1e6 / slice);
  const vectors = Array.from({ length: count }, () => new Float32Array(slice / 4).fill(id + 1));
  const start = performance.now();
  const sums = await Promise.all(vectors.map((values, i) => collective.allReduce(`slice ${i}`, values)));
  const ms = performance.now() - start;
  const wanted = of * (of + 1) / 2;
  if (sums.some((sum) => sum[0] !== wanted || sum[sum.length - 1] !== wanted)) throw new Error("the sum is wrong");
  return ms;
}

/** Sends small messages 5 ms apart with `inFlight` bytes of large ones before each. */
async function beat(type: string, { count, inFlight }: { count: number; inFlight: number }): Promise<void> {
  const connected = link;
  if (connected === undefined) throw new TypeError("beat needs a link");
  const values = new Float32Array(2 ** 20).fill(1.5);
  for (let handled = 0; handled < count; handled++) {
    while (connected.bufferedBytes < inFlight) {
      connected.send({ type: "weights-part", name: "", tensor: toWire(values) });
    }
    const at = Math.round((performance.timeOrigin + performance.now()) * 1e3);
    connected.send(type === "heartbeat" ? { type, id: "peer", handled: at } : { type: "pong", count: at });
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  while (connected.bufferedBytes > 0) await new Promise((resolve) => setTimeout(resolve, 5));
}

for await (const line of linesOf(Deno.stdin.readable)) {
  const [what, ...rest] = line.split(" ");
  if (what === "raw") await connectRaw(rest[0]);
  else if (what === "link") link = await connectSocket(rest[0], { id: `peer-${Deno.pid}`, token: "bench" });
  else if (what === "send") {
    const [count, bytes] = rest.slice(1).map(Number);
    const values = new Float32Array(bytes / 4).fill(1.5);
    for (let i = 0; i < count; i++) {
      if (rest[0] === "raw") {
        // In frames of 1 MiB, as a link cuts its messages.
        for (let at = 0; at < bytes; at += 2 ** 20) {
          raw?.send(new Uint8Array(values.buffer, at, Math.min(2 ** 20, bytes - at)));
        }
      } else link?.send({ type: "weights-part", name: `${i}`, tensor: toWire(values) });
    }
  } else if (what === "reduce") {
    console.log(`reduced ${await reduce(rest.map(Number))}`);
    continue;
  }
  if (what === "beat") await beat(rest[0], { count: Number(rest[1]), inFlight: Number(rest[2]) });
  console.log("done");
}
Deno.exit(0);
