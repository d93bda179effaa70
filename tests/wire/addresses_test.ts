/** Addresses: those of IPv6, names that mean nothing, and names that move. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { WireError } from "../../wire/error.ts";
import type { Link } from "../../wire/link.ts";
import { ownNetwork } from "../../tools/namespaces.ts";
import { connectSocket, listen } from "../../wire/socket_link.ts";

const token = "right-token";

/** Whether this machine has a loopback address of IPv6. */
const hasIpv6 = probe();

function probe(): boolean {
  try {
    Deno.listen({ hostname: "::1", port: 0 }).close();
    return true;
  } catch {
    return false;
  }
}

for (const hostname of ["::1", "[::1]", "localhost"]) {
  Deno.test({
    name: `a listener at ${hostname} gives an address at which it is reached, by name and by address`,
    ignore: !hasIpv6,
    async fn() {
      const links: Link[] = [];
      const listener = listen({ id: "left", token, hostname }, (link) => links.push(link));
      try {
        const expected = hostname === "localhost" ? "localhost" : "[::1]";
        assertEquals(listener.url, `ws://${expected}:${listener.port}/`);
        for (const peer of ["left", undefined]) {
          const link = await connectSocket(listener.url, { id: "right", token, peer });
          assertEquals(link.peer, "left");
          const end = deadline(link.ended, 15_000);
          link.close("done");
          await end;
        }
        assertEquals(links.length, 2);
      } finally {
        await listener.close();
      }
    },
  });
}

Deno.test("a name that stands for no address is one error at once, for who connects and who listens", async () => {
  const connect = () => connectSocket("wss://nowhere.invalid:7070/", { id: "right", token });
  await assertRejects(connect, WireError, "connecting to wss://nowhere.invalid:7070/: the name stands for no address");
  const certificate = Deno.readTextFileSync(new URL("../golden/tls/certificate.pem", import.meta.url));
  const key = Deno.readTextFileSync(new URL("../golden/tls/key.pem", import.meta.url));
  const open = () => listen({ id: "left", token, hostname: "nowhere.invalid", tls: { certificate, key } }, () => {});
  assertThrows(open, WireError, "listening on nowhere.invalid:0: ");
});

const program = new URL("moving_name.ts", import.meta.url).pathname;
const config = new URL("../../deno.json", import.meta.url).pathname;
const own = await ownNetwork([Deno.execPath(), "run", "--quiet", "-A", "--config", config, program]);
if ("reason" in own) console.log(`Not tested: names that move: ${own.reason}`);

Deno.test({
  name: "a link by a name that moves goes on where it was, and the next connection is made to the new address",
  ignore: "reason" in own,
  async fn() {
    if ("reason" in own) return;
    const [command, ...args] = own.args;
    const { code, stdout, stderr } = await deadline(new Deno.Command(command, { args }).output(), 60_000);
    assertEquals(code, 0, new TextDecoder().decode(stderr));
    assertEquals(JSON.parse(new TextDecoder().decode(stdout)), [1, 1, 2]);
  },
});
