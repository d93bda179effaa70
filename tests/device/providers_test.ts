import { assertEquals } from "@std/assert";
import { matrixConfigurations } from "../../device/providers.ts";

Deno.test("matrixConfigurations() reads Dawn's interfaces field by field and leaves integers out", () => {
  class Configuration {
    constructor(readonly componentType: string, readonly resultComponentType: string) {}
    get M() {
      return 16;
    }
    get N() {
      return 8;
    }
    get K() {
      return 32;
    }
  }
  const subgroupMatrixConfigs = [new Configuration("f16", "f32"), new Configuration("u8", "u32")];
  assertEquals(matrixConfigurations({ subgroupMatrixConfigs }), [{
    m: 16,
    n: 8,
    k: 32,
    component: "f16",
    result: "f32",
  }]);
  assertEquals(matrixConfigurations({}), []);
});
