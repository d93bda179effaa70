/**
 * Where the JavaScript thread's time goes while a device is used: giving it commands, waiting for what is read, the rest.
 * A device is watched in place, until told otherwise. It knows no operation.
 */
import type { Device } from "../device/device.ts";

/** Times in milliseconds and counts since the watch began. */
export interface Watched {
  /** In calls that give commands (allocate, upload, write, run, copy, clear, free, the start of reads), submits left out. */
  encodeMs: number;
  /** In submits; a software adapter may compute meanwhile, and a queue that is full makes them wait. */
  submitMs: number;
  /** From the start of a read to its end, while none other was under way. */
  waitMs: number;
  launches: number;
  reads: number;
  submits: number;
}

const COMMANDS = ["allocate", "upload", "write", "clear", "copy", "run", "flush", "free"] as const;

/** Watches `device`; `stop` puts its methods back. */
export function watch(device: Device): { readonly watched: Watched; stop(): void } {
  const watched: Watched = { encodeMs: 0, submitMs: 0, waitMs: 0, launches: 0, reads: 0, submits: 0 };
  let depth = 0, waiting = 0, waitingSince = 0;
  const timed =
    <Args extends unknown[], Result>(name: string, action: (...args: Args) => Result) => (...args: Args) => {
      // Calls within calls (an upload allocates) are counted once.
      const start = performance.now();
      depth += 1;
      try {
        return action(...args);
      } finally {
        depth -= 1;
        const ms = performance.now() - start;
        if (name === "run") watched.launches += 1;
        if (name === "flush") {
          watched.submits += 1;
          watched.submitMs += ms;
          watched.encodeMs -= ms;
        }
        if (depth === 0) watched.encodeMs += ms;
      }
    };
  const read = device.read.bind(device);
  Object.assign(device, Object.fromEntries(COMMANDS.map((name) => [name, timed(name, boundTo(device, name))])), {
    async read(buffers: Parameters<Device["read"]>[0]) {
      const result = timed("read", read)(buffers);
      watched.reads += 1;
      if (waiting++ === 0) waitingSince = performance.now();
      try {
        return await result;
      } finally {
        if (--waiting === 0) watched.waitMs += performance.now() - waitingSince;
      }
    },
  });
  return {
    watched,
    stop() {
      // The class's own methods show again.
      for (const name of [...COMMANDS, "read"] as const) Reflect.deleteProperty(device, name);
    },
  };
}

function boundTo(device: Device, name: (typeof COMMANDS)[number]): (...args: never[]) => unknown {
  const method: (...args: never[]) => unknown = device[name];
  return method.bind(device);
}
