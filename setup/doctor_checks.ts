/** The doctor's checks, one function each: what was looked at, what was found, and the one line that mends a failure. */
import type { AdapterDescription } from "../device/device.ts";
import { decodeImage } from "../data/decode.ts";
import { decode, encode } from "../wire/codec.ts";
import { toWire } from "../wire/tensor.ts";
import { cacheFolder } from "./cache.ts";
import { runCommand } from "./command.ts";

/** One row of the doctor's table. */
export interface Finding {
  readonly what: string;
  /** `note` is worth knowing and no failure. */
  readonly state: "ok" | "note" | "failed";
  readonly found: string;
  /** The command or step that mends it; empty when nothing is wrong. */
  readonly fix: string;
}

/** Marks the result line of `doctor_matmul.ts`. */
export const DOCTOR_MARK = "SEER-DOCTOR ";

const denoMinor = 9;
const diskBytesMin = 2 * 2 ** 30;

/** The version of Deno. */
export function checkDeno(version: string = Deno.version.deno): Finding {
  const [major, minor] = version.split(".").map(Number);
  const fits = major > 2 || (major === 2 && minor >= denoMinor);
  const fix = fits ? "" : `use Deno 2.${denoMinor} or newer: npm install -g deno@2.9.6`;
  return { what: "Deno", state: fits ? "ok" : "failed", found: version, fix };
}

/** One provider: its adapter's limits, and a matrix multiply compared element by element. */
export async function checkProvider(provider: "deno" | "dawn", env: Record<string, string>): Promise<Finding> {
  const script = new URL("./doctor_matmul.ts", import.meta.url).href;
  const flags = ["run", "--quiet", "--no-prompt", "--allow-read", "--allow-env", "--allow-ffi", "--allow-sys"];
  const result = await runCommand(Deno.execPath(), { args: [...flags, script, provider], env, timeoutMs: 120_000 });
  const line = result.stdout.split("\n").find((text) => text.startsWith(DOCTOR_MARK));
  const what = `GPU through ${provider === "deno" ? "Deno's WebGPU" : "Dawn (npm:webgpu)"}`;
  if (line === undefined) {
    const last = result.stderr.trim().split("\n").slice(-1)[0] ?? "no message";
    // One provider is enough: Deno's own is the one that must work.
    const fix = provider === "deno" ? "install a Vulkan driver: sudo apt-get install mesa-vulkan-drivers" : "";
    return { what, state: provider === "deno" ? "failed" : "note", found: last.slice(0, 160), fix };
  }
  const { adapter, wrong, elements }: { adapter: AdapterDescription; wrong: number; elements: number } = JSON.parse(
    line.slice(DOCTOR_MARK.length),
  );
  const figures = describeAdapter(adapter);
  if (wrong === 0) {
    return { what, state: "ok", found: `${figures}; matrix multiply exact (${elements} numbers)`, fix: "" };
  }
  const fix = "update the GPU's driver, or choose the other provider with --gpu";
  return { what, state: "failed", found: `${figures}; matrix multiply wrong in ${wrong} of ${elements} numbers`, fix };
}

function describeAdapter({ name, kind, features, limits }: AdapterDescription): string {
  const has = (feature: "f16" | "subgroups") => `${feature} ${features.includes(feature) ? "yes" : "no"}`;
  const binding = `${Math.round(limits.bindingBytesMax / 2 ** 20)} MiB a binding`;
  const group = `${limits.workgroupInvocationsMax} invocations a workgroup`;
  return `${name} (${kind}), ${binding}, ${group}, ${has("f16")}, ${has("subgroups")}`;
}

/** Decoding by sharp, on a tiny PNG. */
export async function checkDecoding(): Promise<Finding> {
  const png = Uint8Array.from(atob(redDot), (character) => character.charCodeAt(0));
  try {
    const { width, height, pixels } = await decodeImage(png, { name: "the doctor's dot" });
    const right = width === 1 && height === 1 && pixels[0] === 255 && pixels[1] === 0 && pixels[2] === 0;
    return right
      ? { what: "image decoding", state: "ok", found: "sharp decodes a PNG to the right colour", fix: "" }
      : {
        what: "image decoding",
        state: "failed",
        found: `a red dot came out as ${pixels.join(", ")}`,
        fix: reinstall,
      };
  } catch (error) {
    return { what: "image decoding", state: "failed", found: messageOf(error), fix: reinstall };
  }
}

const reinstall = "install the locked dependencies again: deno install --frozen --reload";
/** 1 × 1 pixel, red. */
const redDot = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";

/** The codec, on a tensor that must come back bit for bit. */
export function checkCodec(): Finding {
  const values = Float32Array.of(1.5, -0, 3e38, 1e-40);
  const message = decode(encode({ type: "reduced", epoch: 0, key: "doctor", values: toWire(values) }));
  const bytes = message.type === "reduced" ? message.values.bytes : new Uint8Array();
  const same = new Uint8Array(values.buffer).every((byte, i) => byte === bytes[i]) &&
    bytes.length === values.byteLength;
  return same
    ? { what: "message codec", state: "ok", found: "msgpack returns tensors bit for bit", fix: "" }
    : { what: "message codec", state: "failed", found: "a tensor came back changed", fix: reinstall };
}

/** A loopback port to listen on. */
export function checkPorts(): Finding {
  try {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    return { what: "ports", state: "ok", found: `127.0.0.1 gives free ports (${port})`, fix: "" };
  } catch (error) {
    const fix = "allow listening on 127.0.0.1, or free some ports";
    return { what: "ports", state: "failed", found: messageOf(error), fix };
  }
}

/** Free space where caches and runs go. */
export async function checkDisk(folder: string = cacheFolder()): Promise<Finding> {
  await Deno.mkdir(folder, { recursive: true });
  const result = await runCommand("df", { args: ["-Pk", folder, "."], timeoutMs: 10_000 });
  const free = result.stdout.trim().split("\n").slice(1).map((line) => Number(line.split(/\s+/)[3]) * 1024);
  if (result.code !== 0 || free.length === 0 || free.some(Number.isNaN)) {
    return { what: "disk", state: "note", found: "free space could not be asked for (no df)", fix: "" };
  }
  const least = Math.min(...free);
  const found = `${(least / 2 ** 30).toFixed(1)} GiB free for the cache (${folder}) and this folder`;
  return least >= diskBytesMin
    ? { what: "disk", state: "ok", found, fix: "" }
    : { what: "disk", state: "failed", found, fix: "free 2 GiB, or move the cache with SEER_CACHE=FOLDER" };
}

function messageOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).slice(0, 200);
}
