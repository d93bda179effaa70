/**
 * A program for a mount namespace of its own, where it makes a name move from one address to another while a link made by
 * that name is in use. Prints which of the two answered: before over the link, after over the link, over a new one.
 */
import { connectSocket, listen } from "../../wire/socket_link.ts";
import type { Link } from "../../wire/link.ts";

const token = "of this test", name = "localhost";
const hosts = await Deno.makeTempFile({ prefix: "seer-hosts-" });
await Deno.writeTextFile(hosts, `127.0.0.1 ${name}\n`);
const mounted = await new Deno.Command("mount", { args: ["--bind", hosts, "/etc/hosts"] }).output();
if (!mounted.success) throw new Error(new TextDecoder().decode(mounted.stderr));
const at = (hostname: string, count: number, port?: number) =>
  listen({ id: "left", token, hostname, port }, (link) => link.onMessage = () => link.send({ type: "ping", count }));
const before = at("127.0.0.1", 1), after = at("127.0.0.2", 2, before.port);
const connect = () => connectSocket(`ws://${name}:${before.port}/`, { id: "right", peer: "left", token });
const answerOf = (link: Link) =>
  new Promise((resolve) => {
    link.onMessage = (message) => resolve(message.type === "ping" && message.count);
    link.onClose = resolve;
    link.send({ type: "ping", count: 0 });
  });

const old = await connect();
const first = await answerOf(old);
await Deno.writeTextFile(hosts, `127.0.0.2 ${name}\n`);
const anew = await connect();
console.log(JSON.stringify([first, await answerOf(old), await answerOf(anew)]));
for (const link of [old, anew]) link.close("done");
await Promise.all([before.close(), after.close(), Deno.remove(hosts)]);
