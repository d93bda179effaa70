import { assert, assertEquals } from "@std/assert";
import plugin, { refuseImport, resolveImport, roomOf } from "../../tools/lint_plugin.ts";

function reports(file: string, source: string): string[] {
  const path = decodeURIComponent(new URL(`../../${file}`, import.meta.url).pathname);
  return Deno.lint.runPlugin(plugin, path, source).map(({ id }) => id);
}

Deno.test("rooms import in one direction only", () => {
  assertEquals(refuseImport("nn/linear.ts", "tensor/tensor.ts", false), null);
  assert(refuseImport("tensor/tensor.ts", "nn/linear.ts", true));
  assert(refuseImport("kernels/matmul.ts", "device/device.ts", true));
  assertEquals(refuseImport("actors/trainer.ts", "swav/step.ts", false), null);
  assert(refuseImport("actors/runtime/loop.ts", "actors/trainer.ts", false));
  assert(refuseImport("examples/01_pretrain.ts", "nn/linear.ts", false));
  assertEquals(refuseImport("examples/01_pretrain.ts", "mod.ts", false), null);
  assert(refuseImport("main.ts", "tools/tidy.ts", false));
});

Deno.test("nn/ may import types of collectives/ and nothing else of it", () => {
  assertEquals(reports("nn/x.ts", `import type { Collective } from "../collectives/collective.ts";`), []);
  assertEquals(reports("nn/x.ts", `import { type Collective } from "../collectives/collective.ts";`), []);
  assertEquals(reports("nn/x.ts", `import { memory } from "../collectives/memory.ts";`), ["seer/rooms"]);
  assertEquals(reports("nn/x.ts", `export { memory } from "../collectives/memory.ts";`), ["seer/rooms"]);
  assertEquals(reports("nn/x.ts", `const m = await import("../collectives/memory.ts");`), ["seer/rooms"]);
});

Deno.test("a path's room is the longest that fits, and imports resolve from their file", () => {
  assertEquals(roomOf("actors/runtime/loop.ts"), "actors/runtime");
  assertEquals(roomOf("actors/trainer.ts"), "actors");
  assertEquals(roomOf("main.ts"), "main.ts");
  assertEquals(resolveImport("actors/runtime/loop.ts", "../../wire/codec.ts"), "wire/codec.ts");
  assertEquals(resolveImport("actors/trainer.ts", "zod"), null);
});

Deno.test("packages stay in the rooms that own them", () => {
  assertEquals(reports("wire/codec.ts", `import { Packr } from "msgpackr";`), []);
  assertEquals(reports("actors/trainer.ts", `import { Packr } from "msgpackr";`), ["seer/packages"]);
  assertEquals(reports("nn/resnet.ts", `import { z } from "zod";`), ["seer/packages"]);
  assertEquals(reports("optim/options.ts", `import { z } from "zod";`), []);
  assertEquals(reports("setup/probe.ts", `await import("webgpu");`), ["seer/packages"]);
});

Deno.test("only device/ names the GPU's own types", () => {
  const source = `const a: GPUDevice = await navigator.gpu.requestAdapter();`;
  assertEquals(reports("device/open.ts", source), []);
  assertEquals(reports("tensor/tensor.ts", source), ["seer/gpu-names", "seer/gpu-names"]);
});

Deno.test("rooms of pure results read no clock and draw no random number", () => {
  const source = `const a = Date.now() + Math.random() + performance.now(); setTimeout(f, 1); new Date();`;
  assertEquals(reports("swav/step.ts", source).length, 5);
  assertEquals(reports("actors/runtime/clock.ts", source), []);
});

Deno.test("a function of 71 lines is refused, unless a template makes it long", () => {
  const body = (lines: number) => "  a();\n".repeat(lines);
  assertEquals(reports("nn/x.ts", `function f() {\n${body(68)}}`), []);
  assertEquals(reports("nn/x.ts", `function f() {\n${body(69)}}`), ["seer/function-length"]);
  assertEquals(reports("nn/x.ts", `const f = () => {\n  return \`\n${body(200)}\`;\n};`), []);
  assertEquals(reports("nn/x.ts", `const f = () => {\n  g(() => \`\n${body(200)}\`);\n${body(70)}};`), [
    "seer/function-length",
  ]);
});

Deno.test("a cast through unknown is refused", () => {
  assertEquals(reports("nn/x.ts", "const a = b as unknown as string;"), ["seer/no-double-cast"]);
  assertEquals(reports("nn/x.ts", "const a = b as unknown;"), []);
});
