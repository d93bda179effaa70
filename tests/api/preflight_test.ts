import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { checkAdapters, largestTensor, stepsOf } from "../../api/preflight.ts";
import { ConfigError, loadConfig } from "../../config.ts";
import type { AdapterDescription } from "../../device/device.ts";

/** An adapter whose buffers have at most `bytes`. */
function adapter(bytes: number, provider: "deno" | "dawn" = "deno"): AdapterDescription {
  return {
    provider,
    name: `adapter of ${bytes}`,
    vendor: "",
    architecture: "",
    kind: "cpu",
    features: [],
    subgroupSizes: [0, 0],
    matrices: [],
    limits: {
      bufferBytesMax: bytes,
      bindingBytesMax: bytes,
      bindingsMax: 8,
      workgroupBytesMax: 1,
      workgroupInvocationsMax: 1,
    },
  };
}

Deno.test("largestTensor() of SEER-256GF is an activation of the first stage's first block", async () => {
  const { name, bytes, remedy } = largestTensor(await loadConfig({ preset: "seer-256gf" }));
  assertEquals(name, "the activations of stage 1 at 224 pixels");
  // 16 images, 2 crops, 746 channels at 112 × 112, before the first block of the stage halves them.
  assertEquals(bytes, 4 * 16 * 2 * 746 * 112 * 112);
  assertStringIncludes(remedy, "batchPerReplica");
});

Deno.test("checkAdapters() takes the roomiest adapter of the wanted provider", async () => {
  const config = await loadConfig({ preset: "quickstart" });
  const { bytes } = largestTensor(config);
  checkAdapters(config, [adapter(bytes - 1), adapter(bytes)]);
  assertThrows(() => checkAdapters(config, [adapter(bytes - 1)]), ConfigError, "is too small");
  const dawn = await loadConfig({ preset: "quickstart", overrides: [["gpu", "dawn"]] });
  assertThrows(() => checkAdapters(dawn, [adapter(bytes), adapter(1, "dawn")]), ConfigError, '"adapter of 1"');
});

Deno.test("stepsOf() counts whole batches in an epoch, or takes the steps given", async () => {
  const tiny = await loadConfig({ preset: "test-tiny" });
  assertEquals(stepsOf(tiny, 100), 6);
  const epochs = await loadConfig({ preset: "test-tiny", overrides: [["epochs", "2.5"]] });
  assertEquals(stepsOf(epochs, 47), Math.floor(2.5 * 3));
  assertThrows(() => stepsOf(tiny, 11), RangeError, "12");
});
