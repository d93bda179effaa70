/**
 * The exam that every provider's device passes: what {@linkcode Device} promises, sentence by sentence. Run by
 * `device_test.ts` once per provider.
 */
import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import type { Device, DeviceBuffer } from "../../device/device.ts";
import { DeviceError, KernelError } from "../../device/errors.ts";
import type { Kernel } from "../../kernels/kernel.ts";

/** One sentence of the exam. `fresh` says that the device is spoilt afterwards. */
export interface Question {
  readonly name: string;
  readonly fresh?: boolean;
  readonly ask: (device: Device) => Promise<void>;
}

const LENGTH = 1000;

/** target[i] = target[i] · factor + source[i]. */
function scaleAdd(factor: number): Kernel {
  return {
    label: `scale-add ${factor}`,
    wgsl: `@group(0) @binding(0) var<storage, read> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> destination: array<f32>;
@compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < ${LENGTH}u) { destination[id.x] = destination[id.x] * ${factor.toFixed(1)} + source[id.x]; }
}`,
    bindings: ["read", "write"],
    workgroups: [Math.ceil(LENGTH / 64), 1, 1],
  };
}

function filled(value: number): Float32Array<ArrayBuffer> {
  return new Float32Array(LENGTH).fill(value);
}

async function floats(device: Device, buffer: DeviceBuffer): Promise<Float32Array<ArrayBuffer>> {
  const [bytes] = await device.read([{ buffer }]);
  return new Float32Array(bytes.buffer);
}

/** The exam's questions. */
export const QUESTIONS: readonly Question[] = [
  {
    name: "read() returns what upload() stored, several buffers and prefixes at once",
    ask: async (device) => {
      const words = device.upload(Uint32Array.of(1, 2, 3));
      const bytes = device.upload(Uint8Array.of(9, 8, 7, 6, 5));
      assertEquals(bytes.byteLength, 8);
      const read = await device.read([{ buffer: bytes, byteLength: 5 }, { buffer: words }, {
        buffer: words,
        byteLength: 4,
      }]);
      assertEquals(read[0], Uint8Array.of(9, 8, 7, 6, 5));
      assertEquals(new Uint32Array(read[1].buffer), Uint32Array.of(1, 2, 3));
      assertEquals(new Uint32Array(read[2].buffer), Uint32Array.of(1));
      for (const buffer of [words, bytes]) device.free(buffer);
    },
  },
  {
    name: "commands take effect in the order given, writes, clears and copies included",
    ask: async (device) => {
      const source = device.upload(filled(1));
      const target = device.upload(filled(2));
      const kept = device.allocate(4 * LENGTH);
      device.run(scaleAdd(10), [source, target]); // 21
      device.copy(target, kept);
      device.write(source, filled(5)); // must not overtake the run above
      device.run(scaleAdd(1), [source, target]); // 26
      device.clear(source);
      device.run(scaleAdd(2), [source, target]); // 52
      assertEquals(await floats(device, kept), filled(21));
      assertEquals(await floats(device, target), filled(52));
      for (const buffer of [source, target, kept]) device.free(buffer);
    },
  },
  {
    name: "many more commands than a batch holds stay in order",
    ask: async (device) => {
      const source = device.upload(filled(1));
      const target = device.upload(filled(0));
      const kernel = scaleAdd(1);
      for (let index = 0; index < 300; index++) device.run(kernel, [source, target]);
      assertEquals((await floats(device, target))[LENGTH - 1], 300);
      for (const buffer of [source, target]) device.free(buffer);
    },
  },
  {
    name: "kernels of one text keep their own grids",
    ask: async (device) => {
      const wgsl = `@group(0) @binding(0) var<storage, read_write> data: array<f32>;
        @compute @workgroup_size(1) fn main(@builtin(global_invocation_id) id: vec3u) { data[id.x] = 1; }`;
      const over = (count: number) => ({
        label: `ones ${count}`,
        wgsl,
        bindings: ["write" as const],
        workgroups: [count, 1, 1] as const,
      });
      const few = device.upload(new Float32Array(5)), many = device.upload(new Float32Array(5));
      device.run(over(2), [few]);
      device.run(over(5), [many]);
      assertEquals((await floats(device, few)).slice(0, 5), Float32Array.of(1, 1, 0, 0, 0));
      assertEquals((await floats(device, many)).slice(0, 5), Float32Array.of(1, 1, 1, 1, 1));
      for (const buffer of [few, many]) device.free(buffer);
    },
  },
  {
    name: "copy() honours offsets and refuses ranges outside",
    ask: async (device) => {
      const source = device.upload(Uint32Array.of(1, 2, 3, 4));
      const target = device.upload(Uint32Array.of(0, 0, 0));
      device.copy(source, target, { sourceOffset: 8, targetOffset: 4 });
      const [bytes] = await device.read([{ buffer: target }]);
      assertEquals(new Uint32Array(bytes.buffer), Uint32Array.of(0, 3, 4));
      assertThrows(() => device.copy(source, target, { byteLength: 16 }), RangeError, "must lie inside both buffers");
      assertThrows(() => device.copy(source, source), TypeError, "to itself");
      for (const buffer of [source, target]) device.free(buffer);
    },
  },
  {
    name: "free() lets earlier commands finish on the buffer, and its memory is used again",
    ask: async (device) => {
      const before = device.memory;
      const target = device.upload(filled(0));
      for (let index = 0; index < 20; index++) {
        const source = device.upload(filled(index));
        device.run(scaleAdd(1), [source, target]);
        device.free(source);
      }
      assertEquals((await floats(device, target))[0], 190);
      device.free(target);
      assertEquals(device.memory.liveBytes, before.liveBytes);
      assert(device.memory.reservedBytes <= before.reservedBytes + 3 * 4096, "the pool grew with every upload");
      assert(device.memory.peakBytes >= before.liveBytes + 2 * 4 * LENGTH);
      assertThrows(() => device.free(target), TypeError, "was freed");
    },
  },
  {
    name: "two reads under way at once each get their own bytes",
    ask: async (device) => {
      const first = device.upload(filled(1));
      const second = device.upload(filled(2));
      const [one, two] = await Promise.all([floats(device, first), floats(device, second)]);
      assertEquals([one[0], two[LENGTH - 1]], [1, 2]);
      for (const buffer of [first, second]) device.free(buffer);
    },
  },
  {
    name: "sizes, grids and bindings beyond the limits are refused by name",
    ask: (device) => {
      const { bufferBytesMax } = device.adapter.limits;
      assertThrows(() => device.allocate(bufferBytesMax + 4), RangeError, `allows 0 to ${bufferBytesMax} bytes`);
      const small = device.allocate(8);
      assertThrows(() => device.write(small, new Float32Array(3)), RangeError, "12 bytes to a buffer of 8 bytes");
      const tooWide: Kernel = { ...scaleAdd(1), workgroups: [65_536, 1, 1] };
      assertThrows(() => device.run(tooWide, [small, small]), RangeError, "65536×1×1");
      assertThrows(() => device.run(scaleAdd(1), [small]), TypeError, "binds 2 buffers, and got 1");
      assertThrows(() => device.run(scaleAdd(1), [small, small]), TypeError, "one is written");
      device.free(small);
      return Promise.resolve();
    },
  },
  {
    name: "a kernel whose features are missing runs as the variant it names, or is refused",
    ask: async (device) => {
      const missing = (["subgroup-matrix", "subgroups"] as const).find((name) =>
        !device.adapter.features.includes(name)
      );
      const [source, target] = [device.upload(filled(1)), device.upload(filled(2))];
      const wanted: Kernel = { ...scaleAdd(3), label: "wanted", requires: missing ? [missing] : [] };
      if (missing) {
        assertThrows(() => device.run(wanted, [source, target]), DeviceError, `lacks the feature ${missing}`);
      }
      device.run({ ...wanted, otherwise: scaleAdd(3) }, [source, target]);
      assertEquals(await floats(device, target), filled(7));
      for (const buffer of [source, target]) device.free(buffer);
    },
  },
  {
    name: "lanes of a workgroup of 8 can hand each other values where the device has subgroups",
    ask: async (device) => {
      const target = device.upload(new Float32Array(8));
      const body = (value: string) =>
        `@group(0) @binding(0) var<storage, read_write> destination: array<f32>;
@compute @workgroup_size(8) fn main(@builtin(local_invocation_index) lane: u32) { destination[lane] = ${value}; }`;
      const broadcast: Kernel = {
        label: "broadcast",
        wgsl: body("subgroupBroadcast(f32(lane), 5u)"),
        bindings: ["write"],
        workgroups: [1, 1, 1],
        requires: ["subgroups"],
      };
      device.run({ ...broadcast, otherwise: { ...broadcast, wgsl: body("5.0"), requires: [] } }, [target]);
      assertEquals(await floats(device, target), new Float32Array(8).fill(5));
      device.free(target);
    },
  },
  {
    name: "a kernel that does not compile fails the next read with its label and its text",
    fresh: true,
    ask: async (device) => {
      const buffer = device.upload(filled(0));
      const broken: Kernel = {
        label: "broken kernel",
        wgsl: `@group(0) @binding(0) var<storage, read_write> destination: array<f32>;
@compute @workgroup_size(1) fn main() { destination[0] = undeclared; }`,
        bindings: ["write"],
        workgroups: [1, 1, 1],
      };
      device.run(broken, [buffer]);
      const error = await assertRejects(() => device.read([{ buffer }]), KernelError);
      assertStringIncludes(error.message, '"broken kernel"');
      assertStringIncludes(error.message, "destination[0] = undeclared");
      assertEquals(error.wgsl, broken.wgsl);
      assertThrows(() => device.flush(), KernelError);
    },
  },
  {
    name: "a kernel whose text does not fit its bindings fails the next read",
    fresh: true,
    ask: async (device) => {
      const buffer = device.upload(filled(0));
      device.run({ ...scaleAdd(1), label: "misbound kernel", bindings: ["read"] }, [buffer]);
      await assertRejects(() => device.read([{ buffer }]), KernelError, '"misbound kernel"');
    },
  },
  {
    name: "destroy() ends the device: every later call throws",
    fresh: true,
    ask: async (device) => {
      const buffer = device.upload(filled(0));
      device.run(scaleAdd(1), [device.upload(filled(0)), buffer]);
      device.destroy();
      device.destroy();
      assertThrows(() => device.allocate(4), DeviceError, "was destroyed");
      assertThrows(() => device.flush(), DeviceError, "was destroyed");
      await assertRejects(() => device.read([{ buffer }]), DeviceError, "was destroyed");
    },
  },
];
