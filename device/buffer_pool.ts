/**
 * Reuse of device memory: requests are rounded up to size classes, freed slots wait for the next request of their class,
 * and the slots used longest ago are given up when the pool holds much more than was ever in use at once. What a slot's
 * memory is, is a type parameter: this file knows no GPU object and no command.
 */
import type { MemoryUse } from "./device.ts";

/** A piece of device memory owned by the pool. */
export interface Slot<Memory> {
  readonly id: number;
  readonly byteLength: number;
  readonly memory: Memory;
  /** The batch of commands that used the slot last; kept by the device. */
  lastBatch: number;
}

/** What the pool needs from the device, and its bound. */
export interface BufferPoolOptions<Memory> {
  create(byteLength: number): Memory;
  /** Called once for a slot that the pool gives up. */
  destroy(slot: Slot<Memory>): void;
  /** Largest size a class may have; requests above it get exactly their size. */
  classBytesMax: number;
  /** Bytes that may always wait in the pool, besides as many as were in use at once. @default 64 MiB */
  spareBytes?: number;
}

/** Smallest size class, in bytes. */
const CLASS_BYTES_MIN = 256;

/**
 * The size class of a request: the next of 2^k · {1, 1.25, 1.5, 1.75} bytes, so that at most a fifth is wasted.
 */
export function sizeClass(byteLength: number, classBytesMax: number): number {
  if (byteLength <= CLASS_BYTES_MIN) return CLASS_BYTES_MIN;
  const quarter = 2 ** Math.floor(Math.log2(byteLength - 1)) / 4;
  const rounded = Math.ceil(byteLength / quarter) * quarter;
  return rounded <= classBytesMax ? rounded : Math.ceil(byteLength / 4) * 4;
}

/** Slots by size class, the most recently freed handed out first, so that equal steps get equal slots. */
export class BufferPool<Memory> {
  readonly #options: BufferPoolOptions<Memory>;
  readonly #free = new Map<number, Slot<Memory>[]>();
  readonly #waiting = new Set<Slot<Memory>>();
  #nextId = 0;
  #liveBytes = 0;
  #peakBytes = 0;
  #reservedBytes = 0;

  constructor(options: BufferPoolOptions<Memory>) {
    this.#options = options;
  }

  /** Bytes in use now, at most at once, and held altogether. */
  get memory(): MemoryUse {
    return { liveBytes: this.#liveBytes, peakBytes: this.#peakBytes, reservedBytes: this.#reservedBytes };
  }

  /** A slot of at least `byteLength` bytes. */
  take(byteLength: number): Slot<Memory> {
    const size = sizeClass(byteLength, this.#options.classBytesMax);
    const slot = this.#free.get(size)?.pop() ?? this.#create(size);
    this.#waiting.delete(slot);
    this.#liveBytes += size;
    this.#peakBytes = Math.max(this.#peakBytes, this.#liveBytes);
    return slot;
  }

  /** Takes a slot back, and gives up the ones used longest ago while too much waits. */
  giveBack(slot: Slot<Memory>): void {
    this.#liveBytes -= slot.byteLength;
    this.#waiting.add(slot);
    const sameClass = this.#free.get(slot.byteLength);
    if (sameClass) sameClass.push(slot);
    else this.#free.set(slot.byteLength, [slot]);
    const bound = this.#peakBytes + Math.max(this.#options.spareBytes ?? 64 * 2 ** 20, this.#peakBytes / 2);
    for (const oldest of this.#waiting) {
      if (this.#reservedBytes <= bound) break;
      this.#giveUp(oldest);
    }
  }

  /** Gives up every slot that is not in use. */
  trim(): void {
    for (const slot of this.#waiting) this.#giveUp(slot);
  }

  #create(size: number): Slot<Memory> {
    const slot = { id: this.#nextId++, byteLength: size, memory: this.#options.create(size), lastBatch: -1 };
    this.#reservedBytes += size;
    return slot;
  }

  #giveUp(slot: Slot<Memory>): void {
    this.#waiting.delete(slot);
    const sameClass = this.#free.get(slot.byteLength) ?? [];
    this.#free.set(slot.byteLength, sameClass.filter((other) => other !== slot));
    this.#reservedBytes -= slot.byteLength;
    this.#options.destroy(slot);
  }
}
