/** Made-up adapters for tests that compute nothing. */
import type { AdapterDescription } from "../../device/device.ts";

/** A software adapter without features, with changes. */
export function adapter(changes: Partial<AdapterDescription> = {}): AdapterDescription {
  return {
    provider: "deno",
    name: "made-up adapter",
    vendor: "nobody",
    architecture: "",
    kind: "cpu",
    features: [],
    subgroupSizes: [0, 0],
    matrices: [],
    limits: {
      bufferBytesMax: 2 ** 30,
      bindingBytesMax: 2 ** 30,
      bindingsMax: 8,
      workgroupBytesMax: 16_384,
      workgroupInvocationsMax: 256,
    },
    ...changes,
  };
}
