import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { WireError } from "../../wire/error.ts";
import { greetingFrame } from "../../wire/frames.ts";
import { clockSkewMs, Gate } from "../../wire/gate.ts";
import { Authority, type Claims, Identity, type Pass, tokenLifeMs } from "../../wire/identity.ts";
import type { Link } from "../../wire/link.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";
import { runPolicy } from "../../actors/who_may_send.ts";

const secret = "the run's secret";
const authority = new Authority(secret);
const minute = 60_000;
const trainer = { actor: "trainer-0", role: "trainer", attempt: 3 };
const identity = Identity.ofSecret(secret, { actor: "sync-0", role: "sync", attempt: 3 });

const base64 = (value: unknown) =>
  btoa(JSON.stringify(value)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
const headerOf = (pass: Pass, audience = "sync-0") => new Identity(pass).header(audience);
const good = () => headerOf(authority.pass(trainer));
/** A good header with one of its four parts (claims, signature, proof, signature) changed. */
function changed(part: 0 | 1 | 2 | 3, change: (text: string) => string): string {
  const parts = good().slice("Seer ".length).split(".");
  parts[part] = change(parts[part]);
  return `Seer ${parts.join(".")}`;
}
/** A good header whose claims were changed afterwards. */
const forged = (change: Partial<Claims> & Record<string, unknown>) =>
  changed(0, (text) => base64({ ...JSON.parse(atob(text.replaceAll("-", "+").replaceAll("_", "/"))), ...change }));
const flip = (text: string) => (text[40] === "A" ? text.slice(0, 40) + "B" : text.slice(0, 40) + "A") + text.slice(41);

function alone(header: string | null, now?: () => number): string {
  const gate = new Gate({ identity, audiences: ["sync-0"], roleOf: runPolicy.roleOf, lowestOf: () => 3, now });
  try {
    gate.check(header);
    return "let in";
  } catch (error) {
    assert(error instanceof WireError);
    return error.message;
  }
}

/** What is refused, by what it is, with the reason that the listener's side sees. */
const refused: Record<string, [string | null | (() => string | null), string]> = {
  "no header": [null, "no Authorization header"],
  "an empty header": ["", "malformed"],
  "the scheme alone": ["Seer", "malformed"],
  "the secret itself": [`Bearer ${secret}`, "malformed"],
  "another scheme": [() => good().replace("Seer", "Bearer"), "malformed"],
  "the scheme in lower case": [() => good().replace("Seer", "seer"), "malformed"],
  "two tokens": [() => `${good()} ${good()}`, "malformed"],
  "a token without proof": [() => `Seer ${authority.pass(trainer).token}`, "malformed"],
  "a fifth part": [() => `${good()}.AAAA`, "malformed"],
  "a header of 3,000 characters": [() => `${good()}${"A".repeat(3_000)}`, "too long"],
  "empty claims": [() => changed(0, () => ""), "token's signature is wrong"],
  "claims that are no JSON": [() => changed(0, () => "AAAA"), "token's signature is wrong"],
  "one changed bit of the claims": [() => changed(0, flip), "token's signature is wrong"],
  "no signature": [() => changed(1, () => ""), "token's signature is wrong"],
  "a truncated signature": [() => changed(1, (text) => text.slice(0, -1)), "token's signature is wrong"],
  "a signature with more behind it": [() => changed(1, (text) => `${text}A`), "token's signature is wrong"],
  "one changed bit of the signature": [() => changed(1, flip), "token's signature is wrong"],
  "a signature of zeros": [() => changed(1, () => "A".repeat(86)), "token's signature is wrong"],
  "a signature in other spelling": [() => changed(1, (text) => text.slice(0, -1) + "_"), "token's signature is wrong"],
  "the proof's signature for the token": [
    () => {
      const [body, , proof, last] = good().slice(5).split(".");
      return `Seer ${body}.${last}.${proof}.${last}`;
    },
    "token's signature is wrong",
  ],
  "claims that say alg none": [() => forged({ alg: "none" }), "token's signature is wrong"],
  "a later expiry written in": [() => forged({ expires: Date.now() + 1e9 }), "token's signature is wrong"],
  "another role written in": [() => forged({ role: "controller" }), "token's signature is wrong"],
  "another key written in": [() => forged({ key: "A".repeat(43) }), "token's signature is wrong"],
  "a token of another secret": [() => headerOf(new Authority("another").pass(trainer)), "token's signature is wrong"],
  "an expired token": [
    () => headerOf(authority.pass(trainer, { now: Date.now() - tokenLifeMs - clockSkewMs - minute })),
    "token has expired",
  ],
  "a token of the future": [
    () => headerOf(authority.pass(trainer, { now: Date.now() + clockSkewMs + minute })),
    "not valid yet",
  ],
  "another role's name": [() => headerOf(authority.pass({ ...trainer, actor: "loader-0" })), "is not that of actor"],
  "another role": [() => headerOf(authority.pass({ ...trainer, role: "controller" })), "is not that of actor"],
  "an actor of no role": [() => headerOf(authority.pass({ ...trainer, actor: "eve" })), "is not that of actor"],
  "a token of an earlier attempt": [() => headerOf(authority.pass({ ...trainer, attempt: 2 })), "is of attempt 2, now"],
  "a negative attempt written in": [() => forged({ attempt: -1 }), "token's signature is wrong"],
  "no proof": [() => changed(2, () => ""), "proof's signature is wrong"],
  "one changed bit of the proof": [() => changed(2, flip), "proof's signature is wrong"],
  "a truncated proof": [() => changed(2, (text) => text.slice(0, -2)), "proof's signature is wrong"],
  "a truncated signature of the proof": [() => changed(3, (text) => text.slice(0, 85)), "proof's signature is wrong"],
  "a stolen token with a key of the thief": [
    () => headerOf({ ...authority.pass(trainer), seed: authority.pass(trainer).seed }),
    "proof's signature is wrong",
  ],
  "a proof for another listener": [() => headerOf(authority.pass(trainer), "loader-0"), "for another listener"],
  "a proof for nobody": [() => headerOf(authority.pass(trainer), "*"), "for another listener"],
  "an old proof": [
    () => new Identity(authority.pass(trainer)).header("sync-0", { now: Date.now() - clockSkewMs - minute }),
    "too old",
  ],
  "a proof of the future": [
    () => new Identity(authority.pass(trainer)).header("sync-0", { now: Date.now() + clockSkewMs + minute }),
    "of the future",
  ],
  "a proof with a short nonce": [
    () => new Identity(authority.pass(trainer)).header("sync-0", { nonce: "x" }),
    "proof is malformed",
  ],
};

Deno.test("every kind of wrong authentication is refused, with its reason on the listener's side", () => {
  const headers = Object.entries(refused).map(([name, [header, reason]]) => {
    return { name, text: typeof header === "function" ? header() : header, reason };
  });
  for (const { name, text, reason } of headers) {
    const found = alone(text);
    assert(found.includes(reason), `${name}: ${found} should say ${reason}`);
  }
  assert(headers.length >= 25, String(headers.length));
  assertEquals(alone(good()), "let in");
});

Deno.test("a listener answers wrong authentication with 401, a browser with 403, before anything is upgraded", async () => {
  const reasons: string[] = [];
  const links: Link[] = [];
  const token = identity;
  const options = { id: "sync-0", token, policy: runPolicy, onRefused: (reason: string) => reasons.push(reason) };
  const listener = listen(options, (link) => links.push(link));
  const url = listener.url.replace("ws:", "http:");
  const status = async (headers: Record<string, string>, path = "") => {
    const response = await fetch(url + path, { headers: { upgrade: "websocket", ...headers } });
    await response.body?.cancel();
    return response.status;
  };
  try {
    for (
      const name of ["no header", "the secret itself", "a truncated signature", "an expired token", "an old proof"]
    ) {
      const [header] = refused[name];
      const authorization = typeof header === "function" ? header() : header;
      assertEquals(await status(authorization === null ? {} : { authorization: authorization ?? "" }), 401, name);
    }
    assertEquals(await status({}, `?token=${good().slice(5)}`), 401, "a token in the address");
    for (const origin of ["null", "http://localhost", listener.url]) {
      assertEquals(await status({ authorization: good() ?? "", origin }), 403, origin);
    }
    assertEquals([reasons.length, links.length], [9, 0]);
    const again = new Identity(authority.pass(trainer)).header("sync-0");
    const open = (authorization: string) => {
      const socket = new WebSocket(listener.url, { headers: { authorization } });
      socket.onopen = () => socket.send(greetingFrame("trainer-0"));
      return deadline(
        new Promise<boolean>((resolve) => {
          socket.onmessage = () => resolve(true);
          socket.onerror = () => resolve(false);
        }),
        15_000,
      );
    };
    assertEquals([await open(again), await open(again)], [true, false]);
    assertEquals(reasons.at(-1), "proof was used before");
  } finally {
    await listener.close();
  }
});

Deno.test("an actor that greets under another name than its token's is cut off", async () => {
  const reasons: string[] = [];
  const links: Link[] = [];
  const options = { id: "sync-0", token: identity, onRefused: (reason: string) => reasons.push(reason) };
  const listener = listen(options, (link) => links.push(link));
  try {
    const link = await connectSocket(listener.url, { id: "trainer-1", token: new Identity(authority.pass(trainer)) });
    const end = new Promise<string>((resolve) => link.onClose = resolve);
    assertEquals(await deadline(end, 15_000), "the token is that of trainer-0");
    assertEquals([links, reasons], [[], ["trainer-1 came with the token of trainer-0"]]);
  } finally {
    await listener.close();
  }
});

Deno.test("of each actor the latest start is let in and none before it; hosts belong to no attempt", () => {
  const controller = Identity.ofSecret(secret, { actor: "controller", role: "controller", attempt: null });
  const gate = new Gate({ identity: controller, audiences: ["controller"] });
  const enter = (attempt: number | null) => gate.check(headerOf(authority.pass({ ...trainer, attempt }), "controller"));
  enter(0);
  enter(2);
  enter(null);
  assertThrows(() => enter(1), WireError, "token is of attempt 1, now is 2");
  enter(2);
  // Another actor may be of an earlier start: it has lived on.
  gate.check(headerOf(authority.pass({ ...trainer, actor: "trainer-1", attempt: 1 }), "controller"));
});

Deno.test("a start below what the controller has told is not let in, also when no later one has come yet", () => {
  let lowest = 0;
  const gate = new Gate({ identity, audiences: ["sync-0"], lowestOf: (actor) => actor === "trainer-0" ? lowest : 0 });
  const enter = (attempt: number) => gate.check(headerOf(authority.pass({ ...trainer, attempt })));
  enter(3);
  lowest = 5;
  assertThrows(() => enter(4), WireError, "token is of attempt 4, now is 5");
  enter(5);
});

Deno.test("a renewed token lets the same process in after its first one has expired, and clocks may differ by minutes", () => {
  let now = Date.now();
  const pass = authority.pass(trainer, { now });
  const process = new Identity(pass);
  const gate = new Gate({ identity, audiences: ["sync-0"], now: () => now });
  for (const skew of [-clockSkewMs + minute, clockSkewMs - minute]) {
    gate.check(process.header("sync-0", { now: now + skew }));
  }
  now += tokenLifeMs + clockSkewMs + minute;
  assertThrows(() => gate.check(process.header("sync-0", { now })), WireError, "token has expired");
  process.renew(authority.pass(trainer, { now, seed: pass.seed }).token);
  assertEquals(gate.check(process.header("sync-0", { now })).actor, "trainer-0");
});

Deno.test("an empty secret is refused, and nothing that travels holds the secret or a private key", async () => {
  await assertRejects(() => Promise.resolve().then(() => new Authority("")), WireError, "must not be empty");
  const pass = authority.pass(trainer);
  const text = headerOf(pass).split(".").map((part) => part.replace("Seer ", "")).join(" ");
  assert(
    !text.includes(pass.seed) && !atob(text.split(" ")[0].replaceAll("-", "+").replaceAll("_", "/")).includes(secret),
  );
});

Deno.test("a wall clock that jumps lets nobody in twice, and shuts nobody out once it is right again", () => {
  const right = Date.now(), hour = 60 * minute;
  let now = right;
  const gate = new Gate({ identity, audiences: ["sync-0"], now: () => now });
  const header = good();
  gate.check(header);
  for (const jump of [hour, -hour, 10 * 24 * hour, -10 * 24 * hour]) {
    now = right + jump;
    assertThrows(() => gate.check(good()), WireError, jump > 0 ? "expired" : "not valid yet");
    // Nor is what was let in forgotten.
    now = right;
    assertThrows(() => gate.check(header), WireError, "used before");
    gate.check(good());
  }
});
