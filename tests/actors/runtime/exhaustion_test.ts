/** Processes that run out of memory, file descriptors or processes: how they end, and what of it is told. */
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

// Only who begins as root can become somebody else, and root has no limit.
const root = Deno.uid() === 0;
if (!root) console.log("Not tested: a limit on a user's processes: this is not root");

Deno.test({
  name: "a host that may start no process tells so of the actor and goes on, and so does who starts the host",
  ignore: ignore || !root,
  async fn() {
    const program = `
      import { hostBehavior } from ${at("../../../actors/host.ts")};
      import { processPorts } from ${at("../../../actors/host_process.ts")};
      import { LocalHost } from ${at("../../../actors/local_host.ts")};
      import { runActor } from ${at("../../../actors/runtime/loop.ts")};
      import { MemoryHub } from ${at("../../../actors/runtime/memory_hub.ts")};
      const libc = Deno.dlopen("libc.so.6", {
        setrlimit: { parameters: ["i32", "buffer"], result: "i32" },
        setuid: { parameters: ["u32"], result: "i32" },
      }).symbols;
      const RLIMIT_NPROC = 6;
      const limit = (soft) => {
        if (libc.setrlimit(RLIMIT_NPROC, new BigUint64Array([soft, 1024n])) !== 0) throw new Error("no limit could be set");
      };
      if (libc.setuid(54321) !== 0) throw new Error("this is still root");
      // Only while it starts a process: Deno ends where it can start no thread.
      const atLimit = (start) => {
        limit(1n);
        try {
          return start();
        } finally {
          limit(1024n);
        }
      };
      const hub = new MemoryHub();
      const controller = hub.network("controller");
      controller.onPeerDown = () => {};
      controller.onMessage = (message) => {
        if (message.type !== "actor-exited") return;
        console.log(message.actor, message.code, message.lines.join());
        if (message.actor === "sync-0") controller.send("host", { type: "spawn", id: "loader-0", role: "loader", environment: {} });
        else controller.send("host", { type: "stop", reason: "over" });
      };
      const options = {
        adapters: [],
        controllerUrl: "ws://127.0.0.1:9/",
        token: "secret of this test",
        listen: "127.0.0.1",
        gpuEnvironment: {},
        grants: { addresses: [], dataFolder: "/nowhere", codeFolder: "/nowhere", dawn: false },
      };
      const real = processPorts(options), ports = { ...real, spawn: (order) => atLimit(() => real.spawn(order)) };
      const host = runActor(hostBehavior(ports), { id: "host", network: hub.network("host"), log() {}, controller: "controller" });
      controller.send("host", { type: "spawn", id: "sync-0", role: "sync", environment: {} });
      console.log((await host.done).error ?? "in peace");
      const local = await new Promise((told) => atLimit(() => new LocalHost(() => options, told).start()));
      console.log(local.actor, local.code, local.lines.join());
      Deno.exit(0);`;
    const { stdout, stderr } = await deadline(start(program).output(), 60_000);
    const why = /its process could not be started: .*Resource temporarily unavailable.*/.source;
    const expected = new RegExp(`^sync-0 -1 ${why}\nloader-0 -1 ${why}\nin peace\nhost-0 -1 ${why}\n$`);
    assertMatch(decode(stdout), expected, decode(stderr));
  },
});
