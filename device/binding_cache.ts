/**
 * A bounded cache of what is costly to build from a list of slots (a bind group costs about 45 µs, encoding a dispatch
 * about 5): least recently used entries leave first, and all entries of a slot leave with it. Knows no GPU object.
 */

/** Anything with an identity, such as a pool's slot. */
export interface Keyed {
  readonly id: number;
}

/** Values keyed by a text and the slots they were built from. */
export class BindingCache<Value> {
  readonly #entriesMax: number;
  readonly #entries = new Map<string, { value: Value; slots: readonly Keyed[] }>();
  readonly #keysOfSlot = new Map<number, Set<string>>();

  constructor(entriesMax: number) {
    this.#entriesMax = entriesMax;
  }

  /** Number of entries held. */
  get size(): number {
    return this.#entries.size;
  }

  /** The value under `key`, now the most recently used, or undefined. */
  get(key: string): Value | undefined {
    const entry = this.#entries.get(key);
    if (!entry) return undefined;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.value;
  }

  /** Keeps `value`, built from `slots`, and drops the least recently used entry over the bound. */
  set(key: string, entry: { value: Value; slots: readonly Keyed[] }): void {
    this.#entries.set(key, entry);
    for (const { id } of entry.slots) {
      const keys = this.#keysOfSlot.get(id);
      if (keys) keys.add(key);
      else this.#keysOfSlot.set(id, new Set([key]));
    }
    if (this.#entries.size > this.#entriesMax) {
      for (const oldest of this.#entries.keys()) {
        this.#drop(oldest);
        break;
      }
    }
  }

  /** Drops every entry that was built from `slot`. */
  forget(slot: Keyed): void {
    for (const key of this.#keysOfSlot.get(slot.id) ?? []) this.#drop(key);
    this.#keysOfSlot.delete(slot.id);
  }

  #drop(key: string): void {
    for (const { id } of this.#entries.get(key)?.slots ?? []) this.#keysOfSlot.get(id)?.delete(key);
    this.#entries.delete(key);
  }
}
