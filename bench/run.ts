/**
 * `deno task bench`: runs the benchmarks one after the other, each in a process whose environment shows the GPU. A word
 * chooses one: `deno task bench step`.
 */
import { ensureVulkan } from "../setup/vulkan.ts";

const benchmarks = ["kernels", "step"];

const chosen = Deno.args[0] === undefined ? benchmarks : benchmarks.filter((name) => name === Deno.args[0]);
if (chosen.length === 0) {
  console.error(`benchmark "${Deno.args[0]}" is unknown; there are ${benchmarks.join(", ")}`);
  Deno.exit(2);
}
const env = await ensureVulkan({ log: (line) => console.log(line) });
for (const name of chosen) {
  const script = new URL(`./${name}.ts`, import.meta.url).href;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-all", script, ...Deno.args.slice(1)],
    env,
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  const { code } = await child.status;
  if (code !== 0) Deno.exit(code);
}
