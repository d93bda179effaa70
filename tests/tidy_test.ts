import { assertEquals } from "@std/assert";
import { complainAbout, complainAboutFile, complainAboutKernels } from "../tools/tidy.ts";

Deno.test("the checkout is tidy", async () => {
  const root = decodeURIComponent(new URL("..", import.meta.url).pathname).replace(/\/$/, "");
  assertEquals((await complainAbout(root)).join("\n"), "");
});

Deno.test("a file of 401 lines and a banned text are complained about", () => {
  assertEquals(complainAboutFile({ path: "a.ts", text: "x\n".repeat(400) }), []);
  assertEquals(complainAboutFile({ path: "a.ts", text: "x\n".repeat(401) }).length, 1);
  const banned = "// TO" + "DO: later\n// @ts-" + "ignore\nconst TO" + "DOS = 1;\n";
  assertEquals(complainAboutFile({ path: "a.ts", text: banned }).length, 2);
});

Deno.test("a kernel that no test imports is complained about", () => {
  const kernel = { path: "kernels/matmul.ts", text: "export function matmul(\n  shape: Shape,\n): Kernel {}\n" };
  const test = { path: "tests/kernels/matmul_test.ts", text: `import { matmul } from "../../kernels/matmul.ts";` };
  assertEquals(complainAboutKernels([kernel, test]), []);
  assertEquals(complainAboutKernels([kernel]).length, 1);
  assertEquals(complainAboutKernels([{ path: "kernels/kernel.ts", text: "export function wgsl(): string {}\n" }]), []);
});
