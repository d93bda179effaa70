/** Bytes for tests, put together of numbers and texts, and cut or changed. */

/** Numbers are bytes, texts are UTF-8. */
export function bytesOf(...parts: (number | string)[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    parts.flatMap((part) => typeof part === "number" ? [part] : [...new TextEncoder().encode(part)]),
  );
}

/** A file of `tests/golden/weights`, which `tools/torch_files.py` made. */
export async function goldenFile(name: string): Promise<Uint8Array<ArrayBuffer>> {
  return await Deno.readFile(new URL(`../golden/weights/${name}`, import.meta.url));
}

/** Counts 0, 1, 2, … mixed, so that neighbours differ; the same every time. */
export function* draws(seed: number): Generator<number> {
  for (let state = seed >>> 0;;) {
    state = Math.imul(state ^ (state >>> 15), 0x2c1b3c6d) + 0x9e3779b9 >>> 0;
    yield (state ^ (state >>> 13)) >>> 0;
  }
}
