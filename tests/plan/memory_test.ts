import { assert, assertEquals } from "@std/assert";
import { parseConfig } from "../../config.ts";
import { KernelChoices } from "../../device/choices.ts";
import type { Device, DeviceBuffer, HostArray } from "../../device/device.ts";
import { trunkShape } from "../../nn/trunk_shape.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { summarizeNetwork } from "../../plan/network.ts";
import { Tape } from "../../tensor/tape.ts";
import { zeros } from "../../tensor/tensor.ts";

/** A device that computes nothing and counts the bytes asked for, without the rounding of a real one's pool. */
class CountingDevice implements Device {
  readonly adapter = {
    provider: "deno" as const,
    name: "none",
    vendor: "",
    architecture: "",
    kind: "cpu" as const,
    features: [],
    subgroupSizes: [0, 0] as const,
    matrices: [],
    limits: {
      bufferBytesMax: 2 ** 40,
      bindingBytesMax: 2 ** 40,
      bindingsMax: 8,
      workgroupBytesMax: 16384,
      workgroupInvocationsMax: 256,
    },
  };
  readonly choices = new KernelChoices({ ...this.adapter, ...this.adapter.limits });
  #live = 0;
  #peak = 0;
  #id = 0;

  get memory() {
    return { liveBytes: this.#live, peakBytes: this.#peak, reservedBytes: this.#live };
  }
  allocate(byteLength: number): DeviceBuffer {
    this.#live += byteLength;
    this.#peak = Math.max(this.#peak, this.#live);
    return { id: this.#id++, byteLength };
  }
  upload(data: HostArray): DeviceBuffer {
    return this.allocate(data.byteLength);
  }
  free({ byteLength }: DeviceBuffer): void {
    this.#live -= byteLength;
  }
  read(parts: readonly { buffer: DeviceBuffer; byteLength?: number }[]): Promise<Uint8Array<ArrayBuffer>[]> {
    return Promise.resolve(parts.map(({ buffer, byteLength }) => new Uint8Array(byteLength ?? buffer.byteLength)));
  }
  write(): void {}
  clear(): void {}
  run(): void {}
  copy(): void {}
  flush(): void {}
  destroy(): void {}
}

for (
  const [what, model, size] of [
    ["a network of odd widths", { stemWidth: 9, widths: [14, 21, 35], depths: [1, 2, 1], groupWidth: 7 }, 33],
    ["RegNetY-200MF", { name: "regnety_200mf" }, 96],
  ] as const
) {
  Deno.test(`the planned activations are what a tape holds after the forward pass of ${what}`, async () => {
    const network = summarizeNetwork(parseConfig({ steps: 1, model }, { source: "the test" }));
    const device = new CountingDevice();
    const trunk = buildTrunk(network.spec, { device, seed: 1 });
    const counted = trunk.parameters().reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    assertEquals(counted, network.parameters.trunk);
    const before = device.memory.liveBytes;
    const tape = new Tape(device, { gradients: true });
    const images = tape.adopt(zeros(device, [5, size, size, 3]));
    await trunk.forward(images, { tape, training: true, updateStatistics: false, pass: "test" });
    const held = device.memory.liveBytes - before;
    tape.dispose();
    assertEquals(device.memory.liveBytes, before);
    // Batch norm also keeps four numbers per channel, whatever the batch.
    const kept = trunkShape(network.spec).unitActivations(size).reduce((sum, { all }) => sum + all, 0);
    const [width] = network.headDims;
    const planned = 4 * (5 * (kept + 3 * size ** 2 + width) + 4 * network.batchNorm.channels);
    assert(Math.abs(held / planned - 1) < 0.01, `held ${held} bytes, planned ${planned}`);
  });
}
