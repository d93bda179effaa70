/**
 * The child process of `adapters.ts`: prints the WebGPU adapters it sees as one marked line of JSON, and ends. It is a
 * process of its own because drivers are found through variables that must be set before it starts.
 */
import { PROBE_MARK } from "./adapters.ts";

const adapter = await navigator.gpu?.requestAdapter();
const adapters = adapter
  ? [{
    provider: "deno",
    name: adapter.info.description || adapter.info.device,
    kind: /llvmpipe|swiftshader/i.test(adapter.info.description + adapter.info.device) ? "cpu" : "gpu",
  }]
  : [];
console.log(PROBE_MARK + JSON.stringify(adapters));
Deno.exit(0);
