import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { deadline } from "@std/async/deadline";
import type { Bootstrap } from "../../../actors/runtime/bootstrap.ts";
import { MemoryHub } from "../../../actors/runtime/memory_hub.ts";
import { type Network, openSocketNetwork, type SocketNetwork } from "../../../actors/runtime/network.ts";
import {
  findActor,
  isZombie,
  lives,
  spawnActor,
  type SpawnedActor,
  spawnInProcess,
} from "../../../actors/runtime/spawn.ts";
import type { Message } from "../../../wire/messages.ts";
import { echo } from "./echo_entry.ts";

const entry = new URL("./echo_entry.ts", import.meta.url);
const token = "secret-of-the-test";

/** What the controller saw, with a way to wait for it. */
class Seen {
  readonly messages: { message: Message; from: string }[] = [];
  readonly down: { peer: string; reason: string }[] = [];
  #wake: () => void = () => {};

  constructor(network: Network) {
    network.onMessage = (message, from) => {
      this.messages.push({ message, from });
      this.#wake();
    };
    network.onPeerDown = (peer, reason) => {
      this.down.push({ peer, reason });
      this.#wake();
    };
  }

  async until<T>(find: () => T | undefined): Promise<T> {
    const poll = async (): Promise<T> => {
      while (true) {
        const found = find();
        if (found !== undefined) return found;
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    };
    return await deadline(poll(), 15_000);
  }

  message<K extends Message["type"]>(type: K, from: string): Promise<Extract<Message, { type: K }>> {
    return this.until(() => {
      const found = this.messages.find((seen) => seen.message.type === type && seen.from === from)?.message;
      return found as Extract<Message, { type: K }> | undefined;
    });
  }
}

function bootstrapOf(id: string, controllerUrl: string): Bootstrap {
  return {
    id,
    role: "echo",
    controller: "controller",
    controllerUrl,
    token,
    listen: "127.0.0.1",
    listenPort: 0,
    heartbeatMs: 50,
    options: { greeting: `hello, ${id}` },
  };
}

function start(id: string, socket: SocketNetwork): SpawnedActor {
  return spawnActor({ bootstrap: bootstrapOf(id, socket.url ?? ""), permissions: ["--allow-net=127.0.0.1"], entry });
}

async function withController(test: (socket: SocketNetwork, seen: Seen) => Promise<void>): Promise<void> {
  const socket = openSocketNetwork({ id: "controller", token, listen: { hostname: "127.0.0.1", port: 0 } });
  try {
    await test(socket, new Seen(socket.network));
  } finally {
    await socket.close("test over");
  }
}

Deno.test("spawnActor() starts processes that say hello, beat, talk to each other and stop when asked", async () => {
  await withController(async (socket, seen) => {
    const [a, b] = [start("echo-a", socket), start("echo-b", socket)];
    const [helloA, helloB] = [await seen.message("hello", "echo-a"), await seen.message("hello", "echo-b")];
    assertEquals(helloA.pid, a.pid);
    const actors = [{ id: "echo-a", url: helloA.url ?? "" }, { id: "echo-b", url: helloB.url ?? "" }];
    socket.network.send("echo-a", { type: "directory", actors });
    assertEquals((await seen.message("log", "echo-a")).text, "echo-b");
    await seen.message("heartbeat", "echo-b");
    for (const actor of [a, b]) socket.network.send(actor.id, { type: "stop", reason: "enough" });
    assertEquals((await deadline(a.exited, 15_000)).code, 0);
    assertEquals((await deadline(b.exited, 15_000)).code, 0);
    assertStringIncludes(a.logTail().join("\n"), 'started with {"greeting":"hello, echo-a"}');
  });
});

Deno.test("an actor that throws tells its controller the stack and exits with code 1", async () => {
  await withController(async (socket, seen) => {
    const actor = start("echo-a", socket);
    await seen.message("hello", "echo-a");
    socket.network.send("echo-a", { type: "ping", count: 13 });
    const failed = await seen.message("failed", "echo-a");
    assertStringIncludes(failed.error, "unlucky");
    assertStringIncludes(failed.error, "echo_entry.ts");
    assertEquals((await deadline(actor.exited, 15_000)).code, 1);
  });
});

Deno.test("an actor that dies hard is reported as down, with its exit code and last lines", async () => {
  await withController(async (socket, seen) => {
    const actor = start("echo-a", socket);
    await seen.message("hello", "echo-a");
    socket.network.send("echo-a", { type: "ping", count: 99 });
    assertEquals((await deadline(actor.exited, 15_000)).code, 42);
    assertEquals((await seen.until(() => seen.down[0])).peer, "echo-a");
    assert(actor.logTail().length > 0);
  });
});

Deno.test("stop() ends an actor by closing its stdin", async () => {
  await withController(async (socket, seen) => {
    const actor = start("echo-a", socket);
    await seen.message("hello", "echo-a");
    assertEquals((await deadline(actor.stop(5_000), 15_000)).code, 3);
  });
});

Deno.test("an actor that outlives its parent tells its log over its link, and ends when its controller is gone too", async () => {
  await withController(async (socket, seen) => {
    const bootstrap = { ...bootstrapOf("echo-a", socket.url ?? ""), outlives: true };
    const actor = spawnActor({ bootstrap, permissions: ["--allow-net=127.0.0.1"], entry });
    await seen.message("hello", "echo-a");
    // The end of its stdin is all that it sees of its parent's.
    const ended = actor.stop(12_000);
    const { actor: of, lines } = await seen.message("log-lines", "echo-a");
    assertEquals(of, "echo-a");
    assertStringIncludes(lines[0], "its parent is gone");
    socket.network.send("echo-a", { type: "ping", count: 5 });
    assertEquals((await seen.message("pong", "echo-a")).count, 5);
    await socket.close("the run has ended");
    assertEquals((await deadline(ended, 10_000)).code, 0, "before it is told by a signal");
  });
});

Deno.test("findActor() sees the end of a process that another has started, and ends one that does not end by itself", async () => {
  const sleeping = () => new Deno.Command("sleep", { args: ["60"] }).spawn();
  const [one, other] = [sleeping(), sleeping()];
  const [first, second] = [one, other].map(({ pid }) => findActor({ id: "echo-a", pid }));
  one.kill("SIGKILL");
  await one.status;
  assertEquals(await deadline(first.exited, 5_000), { code: -1, signal: null });
  assertEquals((await deadline(second.stop(20), 5_000)).code, -1);
  assertEquals((await other.status).signal, "SIGTERM");
  assertEquals(await deadline(first.stop(20), 5_000), { code: -1, signal: null }, "it has ended already");
});

Deno.test("a process that has ended and that nobody waits for does not live", async () => {
  // The shell that becomes "sleep" never waits for the process that it has started.
  const parent = new Deno.Command("sh", { args: ["-c", "sleep 60 & echo $!; exec sleep 60"], stdout: "piped" }).spawn();
  const { value } = await parent.stdout.getReader().read();
  const pid = Number(new TextDecoder().decode(value));
  try {
    assert(lives(pid) && !await isZombie(pid));
    const found = findActor({ id: "echo-a", pid });
    Deno.kill(pid, "SIGKILL");
    assertEquals(await deadline(found.exited, 5_000), { code: -1, signal: null });
    assert(await isZombie(pid), "or it was waited for, and this test shows nothing");
    const again = findActor({ id: "echo-a", pid });
    assertEquals(await deadline(again.stop(60_000), 5_000), { code: -1, signal: null }, "nothing is waited for");
  } finally {
    parent.kill("SIGKILL");
    await parent.status;
  }
});

Deno.test("an actor without its network permission exits and says which flag it lacks", async () => {
  await withController(async (socket) => {
    const actor = spawnActor({ bootstrap: bootstrapOf("echo-a", socket.url ?? ""), permissions: [], entry });
    assertEquals((await deadline(actor.exited, 15_000)).code, 1);
    assertStringIncludes(actor.logTail().join("\n"), "--allow-net");
  });
});

Deno.test("what an actor sent before it ended arrives, also from one that accepts no connections", async () => {
  await withController(async (socket, seen) => {
    const bootstrap = { ...bootstrapOf("talker", socket.url ?? ""), role: "talker" };
    const actor = spawnActor({ bootstrap, permissions: ["--allow-net=127.0.0.1"], entry });
    assertEquals((await deadline(actor.exited, 15_000)).code, 0);
    assertEquals((await seen.until(() => seen.down[0])).reason, "said all");
    assertEquals((await seen.message("hello", "talker")).url, null);
    assertEquals(seen.messages.filter(({ message }) => message.type === "log").length, 300);
  });
});

Deno.test("an actor outlives the Ctrl-C that its controller is to handle", async () => {
  await withController(async (socket, seen) => {
    const actor = start("echo-a", socket);
    await seen.message("hello", "echo-a");
    Deno.kill(actor.pid, "SIGINT");
    socket.network.send("echo-a", { type: "ping", count: 5 });
    assertEquals((await seen.message("pong", "echo-a")).count, 5);
    socket.network.send("echo-a", { type: "stop", reason: "enough" });
    assertEquals((await deadline(actor.exited, 15_000)).code, 0);
  });
});

Deno.test("an unknown role and a refused token end the process with the reason in its log", async () => {
  await withController(async (socket) => {
    for (
      const [change, reason] of [[{ role: "nobody" }, 'role "nobody"'], [
        { token: "wrong" },
        "token was refused",
      ]] as const
    ) {
      const bootstrap = { ...bootstrapOf("echo-a", socket.url ?? ""), ...change };
      const actor = spawnActor({ bootstrap, permissions: ["--allow-net=127.0.0.1"], entry });
      assertEquals((await deadline(actor.exited, 15_000)).code, 1);
      assertStringIncludes(actor.logTail().join("\n"), reason);
    }
  });
});

Deno.test("no secret appears in an actor's arguments or environment", async () => {
  if (Deno.build.os !== "linux") return;
  await withController(async (socket, seen) => {
    const actor = start("echo-a", socket);
    await seen.message("hello", "echo-a");
    for (const file of ["cmdline", "environ"]) {
      // Deno itself reads another process's /proc only with every permission; cat needs none of Deno's.
      const output = await new Deno.Command("cat", { args: [`/proc/${actor.pid}/${file}`] }).output();
      const text = new TextDecoder().decode(output.stdout);
      assertEquals([file, text.length > 0], [file, true]);
      assertEquals([file, text.includes(token)], [file, false]);
    }
    await actor.stop(5_000);
  });
});

Deno.test("spawnInProcess() runs the same role over memory", async () => {
  const hub = new MemoryHub();
  const controller = hub.network("controller");
  const seen = new Seen(controller);
  const [a, b] = ["echo-a", "echo-b"].map((id) => {
    const bootstrap = { ...bootstrapOf(id, ""), heartbeatMs: 60_000 };
    return spawnInProcess({ bootstrap, role: echo, hub });
  });
  assertEquals((await seen.message("hello", "echo-a")).url, "memory:echo-a");
  const actors = [{ id: "echo-b", url: "memory:echo-b" }];
  controller.send("echo-a", { type: "directory", actors });
  assertEquals((await seen.message("log", "echo-a")).text, "echo-b");
  controller.send("echo-a", { type: "ping", count: 13 });
  assertStringIncludes((await seen.message("failed", "echo-a")).error, "unlucky");
  assertEquals((await deadline(a.exited, 5_000)).code, 1);
  assertEquals((await seen.until(() => seen.down[0])).peer, "echo-a");
  assertEquals((await deadline(b.stop(1_000), 5_000)).code, 0);
  hub.remove("controller", "test over");
});
