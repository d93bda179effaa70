/**
 * The body of a child process that computes for `gpu_client.ts`: reads one request a line from stdin, answers each on
 * stdout, and ends when stdin does. An answer is one marked line of JSON, followed by the features' bytes where there are
 * any; drivers may print what they like around it.
 */
import { embedFiles, evaluateHere, openRunTrunk, type OpenTrunk, viewSize } from "./compute.ts";
import { parseConfig } from "../config.ts";
import { featuresHere, protocolHere, shareHere } from "./protocol_here.ts";
import { stepUses } from "../actors/engine/shapes.ts";
import { openDevice } from "../device/open.ts";
import { tune } from "../device/tuner.ts";
import { type Answer, ANSWER_MARK, linesOf, type Request } from "./gpu_protocol.ts";

let open: OpenTrunk | undefined;

function send(answer: Answer, bytes?: Uint8Array): void {
  const write = (data: Uint8Array) => {
    for (let rest = data; rest.length > 0;) rest = rest.subarray(Deno.stdout.writeSync(rest));
  };
  write(new TextEncoder().encode(ANSWER_MARK + JSON.stringify(answer) + "\n"));
  if (bytes !== undefined) write(bytes);
}

/** Tunes what a step of the configuration asks for under the keys given. */
async function tuneHere({ config, adapter, keys }: Extract<Request, { kind: "tune" }>): Promise<void> {
  const { uses } = await stepUses(parseConfig(config, { source: "the run's configuration" }), adapter);
  await tune(uses.filter(({ key }) => keys.includes(key)), {
    open: () => openDevice({ provider: adapter.provider, adapter: adapter.name }),
    now: () => performance.now(),
    onChoice: (choice) => send({ kind: "chosen", choice }),
  });
  send({ kind: "tuned" });
}

async function serve(request: Request): Promise<void> {
  const onProgress = (done: number, total: number, name = "") => send({ kind: "progress", name, done, total });
  if (request.kind === "evaluate") {
    const report = await evaluateHere(request.run, request.data, (name, done, total) => onProgress(done, total, name));
    return send({ kind: "report", report });
  }
  if (request.kind === "protocol") {
    const result = await protocolHere(request, (name, done, total) => onProgress(done, total, name));
    return send({ kind: "result", result });
  }
  if (request.kind === "features") {
    const { data, rows, columns } = await featuresHere(request, (name, done, total) => onProgress(done, total, name));
    return send({ kind: "features", rows, columns }, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  if (request.kind === "share") {
    const found = await shareHere(request);
    if (found === undefined) return send({ kind: "features", rows: 0, columns: 0 });
    const { data, rows, columns } = found.features;
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    return send({ kind: "features", rows, columns, ids: found.ids }, bytes);
  }
  if (request.kind === "tune") return await tuneHere(request);
  if (request.kind === "open") {
    open = await openRunTrunk(request);
    return send({ kind: "opened", width: open.trunk.width, size: viewSize(open.config), config: open.config });
  }
  if (open === undefined) throw new TypeError("embedding needs an open trunk");
  const { files, size, view } = request;
  const { data, rows, columns } = await embedFiles(open, files, { size, view, onProgress });
  send({ kind: "features", rows, columns }, new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

if (import.meta.main) {
  // Ctrl-C in a terminal reaches this process too; its parent ends it by closing stdin.
  Deno.addSignalListener("SIGINT", () => {});
  for await (const line of linesOf(Deno.stdin.readable)) {
    try {
      await serve(JSON.parse(line));
    } catch (error) {
      if (Deno.env.get("SEER_DEBUG") === "1") console.error(error);
      send({ kind: "failed", error: error instanceof Error ? error.message : String(error) });
    }
  }
  open?.device.destroy();
  // Providers keep background work alive that would hold the process.
  Deno.exit(0);
}
