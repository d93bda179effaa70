import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { NoAdapterError } from "../../device/errors.ts";
import { listAdapters, openDevice } from "../../device/open.ts";
import { eachDevice } from "../devices.ts";
import { QUESTIONS } from "./device_exam.ts";

for (const { name, fresh, ask } of QUESTIONS) {
  eachDevice(name, async (shared) => {
    if (!fresh) return await ask(shared);
    const device = await openDevice({ provider: shared.adapter.provider });
    try {
      await ask(device);
    } finally {
      device.destroy();
    }
  });
}

eachDevice("the adapter is described by name, kind and limits", (device) => {
  const { name, kind, limits } = device.adapter;
  assert(name.length > 0);
  assertMatch(kind, /^(cpu|gpu)$/);
  assert(limits.bindingBytesMax >= 128 * 2 ** 20 && limits.bindingsMax >= 8 && limits.bufferBytesMax >= 2 ** 28);
  return Promise.resolve();
});

Deno.test("listAdapters() shows the adapter that openDevice() opens", async () => {
  const device = await openDevice();
  const names = (await listAdapters()).map(({ provider, name }) => `${provider}: ${name}`);
  assert(names.includes(`${device.adapter.provider}: ${device.adapter.name}`), names.join("\n"));
  device.destroy();
});

Deno.test("openDevice() names what it found and the remedy when no adapter fits", async () => {
  const error = await assertRejects(() => openDevice({ adapter: "Voodoo 2" }), NoAdapterError);
  assertMatch(error.message, /with "Voodoo 2" in its name[^]*has only "[^]*deno task doctor/);
  assertEquals(error.refusals.length, 2);
  assertThrows(() => {
    throw error;
  }, NoAdapterError);
});
