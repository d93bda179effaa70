import { assertEquals, assertThrows } from "@std/assert";
import { type Bootstrap, bootstrapLine, parseBootstrap } from "../../../actors/runtime/bootstrap.ts";

const bootstrap: Bootstrap = {
  id: "trainer-0",
  role: "trainer",
  controller: "controller",
  controllerUrl: "ws://127.0.0.1:1/",
  token: "secret",
  listen: "127.0.0.1",
  listenPort: 0,
  heartbeatMs: 1_000,
  options: { text: "two\nlines", list: [1] },
};

Deno.test("a bootstrap is one line and reads back the same", () => {
  const line = bootstrapLine(bootstrap);
  assertEquals(line.indexOf("\n"), line.length - 1);
  assertEquals(parseBootstrap(line), bootstrap);
});

Deno.test("a wrong bootstrap is refused without repeating its token", () => {
  const cases = ["", "hello secret", JSON.stringify({ ...bootstrap, listenPort: -1 }), '{"token":"secret"}'];
  for (const line of cases) {
    const error = assertThrows(() => parseBootstrap(line), TypeError, "starting an actor");
    assertEquals(error.message.includes("secret"), false);
  }
});
