/**
 * Runs a test on every provider present. Where no provider shows an adapter the test fails with the remedy: a GPU test
 * that silently did not run would prove nothing. A provider that does not load here (Dawn has builds for few platforms)
 * is named once, with the reason.
 */
import type { Device, Provider } from "../device/device.ts";
import { openDevice } from "../device/open.ts";
import { type AdapterRefusal, NoAdapterError } from "../device/errors.ts";
import { findAdapters } from "../device/providers.ts";

/** `SEER_TEST_PROVIDERS=deno` leaves the others out, for a quick run. */
const PROVIDERS = (Deno.env.get("SEER_TEST_PROVIDERS")?.split(",") ?? ["deno", "dawn"]) as Provider[];

const present: Provider[] = [];
const refusals: AdapterRefusal[] = [];
for (const provider of PROVIDERS) {
  const reason = await findAdapters(provider).then(
    (found) => found.length > 0 ? undefined : "shows no adapter",
    String,
  );
  if (reason === undefined) present.push(provider);
  else refusals.push({ provider, reason });
}
for (const { provider, reason } of present.length > 0 ? refusals : []) {
  console.warn(`Tests do not run on provider "${provider}": ${reason}`);
}

const devices = new Map<Provider, Promise<Device>>();

// While the file's isolate still stands: destroying a Dawn device from an `unload` handler takes the process down, and
// leaving it to the process's end does so once in a while, both after the last test has passed.
Deno.test.afterAll(async () => {
  for (const device of devices.values()) (await device).destroy();
});

/** The providers whose adapters this process sees. */
export function providersPresent(): readonly Provider[] {
  return present;
}

/**
 * Registers one `Deno.test` per provider present, named `"<name> [<provider>]"`. The device is shared by the tests of a
 * file; a test frees what it allocates.
 */
export function eachDevice(name: string, test: (device: Device, step: Deno.TestContext) => Promise<void>): void {
  if (present.length === 0) {
    Deno.test(name, () => {
      throw new NoAdapterError("was found for the tests", refusals);
    });
  }
  for (const provider of present) {
    Deno.test({
      name: `${name} [${provider}]`,
      // Both providers keep background work (Dawn's poller, wgpu's device) that outlives a test.
      sanitizeOps: false,
      sanitizeResources: false,
      fn: async (step) => {
        const opened = devices.get(provider) ?? openDevice({ provider });
        devices.set(provider, opened);
        await test(await opened, step);
      },
    });
  }
}
