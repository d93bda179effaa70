/** Loads the peers on the provider that runs our kernels, so that all arms use one adapter through one implementation. */
import type { Provider } from "../../device/device.ts";
import { openJax } from "./jax.ts";
import type { Peer } from "./peer.ts";
import { openTfjs } from "./tfjs.ts";

/** Every peer that starts; one that does not is named with its reason. */
export async function openPeers(provider: Provider): Promise<Peer[]> {
  if (provider === "dawn") await useDawn();
  const peers: Peer[] = [];
  const openers = [
    async () => [await openTfjs()],
    async () => await openJax(await pinned("@jax-js/jax")),
  ];
  for (const open of openers) {
    try {
      peers.push(...await open());
    } catch (cause) {
      console.log(`A peer is left out: ${(cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0]}`);
    }
  }
  return peers;
}

/** The version in the import map. */
async function pinned(name: string): Promise<string> {
  const config: { imports: Record<string, string> } = JSON.parse(
    await Deno.readTextFile(new URL("../../deno.json", import.meta.url)),
  );
  return config.imports[name]?.split("@").at(-1) ?? "";
}

/** Peers ask `navigator.gpu`; Dawn stands in its place, with the globals that go with it. */
async function useDawn(): Promise<void> {
  const { create, globals } = await import("webgpu");
  Object.assign(globalThis, globals);
  Object.defineProperty(navigator, "gpu", { value: create([]), configurable: true });
}
