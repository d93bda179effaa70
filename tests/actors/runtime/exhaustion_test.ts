/** Processes of actors that run out of memory or of file descriptors: how they end, and what of it is told. */
import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { delay } from "@std/async/delay";
import type { Link } from "../../../wire/link.ts";
import { connectSocket } from "../../../wire/socket_link.ts";

const config = new URL("../../../deno.json", import.meta.url).pathname;
const token = "secret-of-the-test";
const at = (path: string) => JSON.stringify(new URL(path, import.meta.url).href);

/** Runs a program of Deno's after the shell's `before`, with flags of V8. */
function start(program: string, { before = "true", v8 = "" } = {}): Deno.Command {
  const flags = ["run", "-A", "--no-check", "--config", config, ...(v8 === "" ? [] : [`--v8-flags=${v8}`])];
  const url = `data:application/typescript,${encodeURIComponent(program)}`;
  const args = ["-c", `${before} && exec "$@"`, "sh", Deno.execPath(), ...flags, url];
  return new Deno.Command("sh", { args, env: { NO_COLOR: "1" }, stdout: "piped", stderr: "piped" });
}

const ignore = Deno.build.os !== "linux";
const decode = (bytes: Uint8Array) => new TextDecoder().decode(bytes);

Deno.test({
  name: "a heap that is full ends the process by a signal, with the cause in its last words",
  ignore,
  async fn() {
    const program = "const kept = []; while (true) kept.push(new Array(1000).fill({}).map((_, i) => ({ i })));";
    const { code, signal, stderr } = await deadline(start(program, { v8: "--max-old-space-size=32" }).output(), 60_000);
    assert(signal !== null && code > 128, `${code} ${signal}`);
    assertMatch(decode(stderr), /Fatal JavaScript out of memory/);
  },
});

Deno.test({
  name: "memory for tensors that is not to be had is an error of the actor that asks for it, and it can say so",
  ignore,
  async fn() {
    const program = `
      import { runActor } from ${at("../../../actors/runtime/loop.ts")};
      import { MemoryHub } from ${at("../../../actors/runtime/memory_hub.ts")};
      const hub = new MemoryHub();
      const controller = hub.network("controller");
      controller.onPeerDown = () => {};
      controller.onMessage = (message) => message.type === "failed" && console.log(message.error.split("\\n")[0]);
      const kept = [];
      const take = () => { while (true) kept.push(new Float32Array(2 ** 28)); };
      const behavior = { init: () => [null, []], handle: take };
      const actor = runActor(behavior, { id: "greedy", network: hub.network("greedy"), log() {}, controller: "controller" });
      actor.post({ type: "ping", count: 1 });
      await actor.done;
      await new Promise((go) => setTimeout(go, 50));
      console.log("ended");
      Deno.exit(0);`;
    const { stdout, stderr } = await deadline(start(program, { before: "ulimit -v 80000000" }).output(), 60_000);
    assertMatch(decode(stdout), /handling "ping" from self: Array buffer allocation failed\nended\n$/, decode(stderr));
  },
});

Deno.test({
  name: "a listener without file descriptors keeps its links, and lets others in once there are some again",
  ignore,
  async fn() {
    const program = `
      import { listen } from ${at("../../../wire/socket_link.ts")};
      const listener = listen({ id: "left", token: ${JSON.stringify(token)} }, (link) => {
        link.onMessage = (message) => link.send({ type: "pong", count: message.count });
      });
      console.log(listener.url);`;
    const child = start(program, { before: "ulimit -n 96" }).spawn();
    const reader = child.stdout.getReader();
    const flood: Deno.Conn[] = [];
    try {
      const url = decode((await deadline(reader.read(), 30_000)).value ?? new Uint8Array()).trim();
      const port = Number(new URL(url).port);
      const first = await connectSocket(url, { id: "first", token });
      let wake: (count: number) => void = () => {};
      first.onMessage = (message) => message.type === "pong" && wake(message.count);
      const answer = async (count: number) => {
        const answered = new Promise<number>((resolve) => wake = resolve);
        first.send({ type: "ping", count });
        assertEquals(await deadline(answered, 15_000), count);
      };
      await answer(1);
      const knock = () => Deno.connect({ hostname: "127.0.0.1", port }).then((each) => flood.push(each), () => {});
      for (let i = 0; i < 200; i++) await knock();
      await assertRejects(() => connectSocket(url, { id: "second", token, timeoutMs: 500 }));
      await answer(2);
      for (const each of flood.splice(0)) each.close();
      const come = async (): Promise<Link> => {
        while (true) {
          const link = await connectSocket(url, { id: "second", token }).catch(() => undefined);
          if (link !== undefined) return link;
          await delay(50);
        }
      };
      const second = await deadline(come(), 15_000);
      assertEquals(second.peer, "left");
      await answer(3);
      for (const link of [first, second]) link.close("done");
      await Promise.all([first.ended, second.ended]);
    } finally {
      for (const each of flood) each.close();
      child.kill("SIGKILL");
      await Promise.all([reader.cancel(), child.stderr.cancel(), child.status]);
    }
  },
});

Deno.test({
  name: "a checkpoint that finds no file descriptor is one error, and is written when there is one",
  ignore,
  async fn() {
    const folder = await Deno.makeTempDir({ prefix: "descriptors-" });
    const program = `
      import { DirectoryStore } from ${at("../../../checkpoint/store.ts")};
      const store = new DirectoryStore(${JSON.stringify(folder)});
      const state = { runId: "run", progress: {}, configDigest: "c".repeat(64), createdAt: new Date(0), model: new Map(), optimizer: new Map() };
      await store.save({ ...state, step: 1 });
      const held = [];
      try { while (true) held.push(Deno.openSync("/dev/null")); } catch {}
      console.log(await store.save({ ...state, step: 2 }).then(() => "saved", (error) => error.name + " " + error.message));
      for (const file of held) file.close();
      console.log((await store.load("latest")).manifest.step);
      await store.save({ ...state, step: 2 });
      console.log((await store.load("latest")).manifest.step);`;
    try {
      const { stdout, stderr } = await deadline(start(program, { before: "ulimit -n 96" }).output(), 60_000);
      assertMatch(
        decode(stdout),
        /^CheckpointError saving step 2 under .*Too many open files.*\n1\n2\n$/,
        decode(stderr),
      );
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
