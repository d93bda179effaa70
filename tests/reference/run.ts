/**
 * The body of `deno task test:reference`: makes sure that there is an adapter and starts the comparisons in a child
 * process that sees it. `REFERENCE_DIR` names a folder that generate.py wrote; words as arguments choose cases.
 */
import { ensureVulkan } from "../../setup/vulkan.ts";

if (import.meta.main) {
  const env = await ensureVulkan({ log: (line) => console.log(line) });
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--allow-read",
      "--allow-write",
      "--allow-env",
      "--allow-net=127.0.0.1,localhost,[::1]",
      "--allow-run",
      "--allow-ffi",
      "--allow-sys",
      decodeURIComponent(new URL("./compare_all.ts", import.meta.url).pathname),
      ...Deno.args,
    ],
    env,
  }).spawn();
  Deno.exit((await child.status).code);
}
