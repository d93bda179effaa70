import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { WireError } from "../../wire/error.ts";
import type { Link } from "../../wire/link.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { isLoopback, listeningTls, type Tls } from "../../wire/tls.ts";

const token = "of this test";
const pem = (name: string) => Deno.readTextFileSync(new URL(`../golden/tls/${name}.pem`, import.meta.url));
const own: Tls = { certificate: pem("certificate"), key: pem("key") };
const authority = pem("authority");

Deno.test("links over TLS carry messages, and the address says so", async () => {
  const accepted = Promise.withResolvers<Link>();
  const listener = listen({ id: "left", token, tls: own }, accepted.resolve);
  try {
    assert(listener.url.startsWith("wss://127.0.0.1:"), listener.url);
    const right = await connectSocket(listener.url, { id: "right", token, tls: { authority } });
    const got = new Promise((resolve) => right.onMessage = resolve);
    (await deadline(accepted.promise, 15_000)).send({ type: "ping", count: 7 });
    assertEquals(await deadline(got, 15_000), { type: "ping", count: 7 });
  } finally {
    await listener.close();
  }
});

Deno.test("a certificate of another authority, of another name, or none at all is not connected to", async () => {
  const connect = (url: string, tls?: Tls) => connectSocket(url, { id: "right", token, tls, timeoutMs: 5_000 });
  const listener = listen({ id: "left", token, tls: own }, () => {});
  const foreign = listen({ id: "left", token, tls: { ...own, certificate: pem("other_name") } }, () => {});
  const plain = listen({ id: "left", token }, () => {});
  try {
    await assertRejects(() => connect(listener.url, { authority: pem("other_authority") }), WireError, "certificate");
    await assertRejects(() => connect(listener.url), WireError, "certificate");
    await assertRejects(() => connect(foreign.url, { authority }), WireError, "certificate");
    await assertRejects(() => connect(plain.url.replace("ws:", "wss:"), { authority }), WireError);
    await assertRejects(() => connect(listener.url.replace("wss:", "ws:")), WireError);
  } finally {
    await Promise.all([listener.close(), foreign.close(), plain.close()]);
  }
});

Deno.test("off loopback nothing listens or connects without TLS, and the error says how to", async () => {
  for (const hostname of ["0.0.0.0", "::", "192.0.2.1", "trainer.example", "127.0.0.1.example"]) {
    const error = assertThrows(() => listen({ id: "left", token, hostname }, () => {}), WireError);
    for (const text of [hostname, "needs TLS", "cluster.tls.certificate", "listen on 127.0.0.1"]) {
      assert(error.message.includes(text), error.message);
    }
  }
  for (const tls of [{ certificate: own.certificate }, { key: own.key }, { authority }]) {
    assertThrows(() => listeningTls("192.0.2.1", tls), WireError, "certificate or key is missing");
  }
  assertThrows(() => listeningTls("127.0.0.1", { key: own.key }), WireError, "certificate or key is missing");
  for (const url of ["ws://192.0.2.1:7000/", "ws://trainer.example/", "ws://[2001:db8::1]:1/"]) {
    const connect = () => connectSocket(url, { id: "right", token });
    await assertRejects(connect, WireError, "any address but loopback needs TLS; use the wss:// address");
  }
  const loopback = ["127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]", "LOCALHOST"];
  assertEquals(loopback.map(isLoopback), loopback.map(() => true));
});
