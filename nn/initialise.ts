/**
 * Initial weights as a pure function of (seed, parameter name, index), so that every trainer builds the same model without
 * asking another. Knows distributions, not layers.
 */

/** A distribution over independent numbers. */
export type Distribution =
  | { readonly kind: "normal"; readonly deviation: number }
  | { readonly kind: "uniform"; readonly bound: number }
  | { readonly kind: "constant"; readonly value: number };

/** 32-bit FNV-1a of the text's UTF-16 units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** Mixes 32 bits so that each input bit reaches each output bit (MurmurHash3's finaliser). */
function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return (x ^ (x >>> 16)) >>> 0;
}

/** Draws the `counter`-th number of a stream, uniform in (0, 1). */
function uniform(key: number, counter: number): number {
  const high = mix(mix(key ^ Math.imul(counter + 1, 0x9e3779b1)) + key);
  return (high + 0.5) / 2 ** 32;
}

/**
 * `count` initial numbers of the parameter `name`, in the order of its file layout. Normal numbers are drawn by Box and
 * Muller's transform.
 */
export function initialise(
  distribution: Distribution,
  { seed, name, count }: { seed: number; name: string; count: number },
): Float32Array<ArrayBuffer> {
  const values = new Float32Array(count);
  const key = mix(hashText(name) ^ mix(seed + 0x9e3779b9));
  if (distribution.kind === "constant") return values.fill(distribution.value);
  if (distribution.kind === "uniform") {
    for (let i = 0; i < count; i++) values[i] = (2 * uniform(key, i) - 1) * distribution.bound;
    return values;
  }
  for (let i = 0; i < count; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(uniform(key, i))) * distribution.deviation;
    const angle = 2 * Math.PI * uniform(key, i + 1);
    values[i] = radius * Math.cos(angle);
    if (i + 1 < count) values[i + 1] = radius * Math.sin(angle);
  }
  return values;
}
