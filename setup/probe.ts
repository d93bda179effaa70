/**
 * The child process of `adapters.ts`: prints the WebGPU adapters it sees, and why a provider shows none, as one marked
 * line of JSON, and ends. It is a process of its own because drivers are found through variables that must be set before
 * it starts.
 */
import { surveyAdapters } from "../device/open.ts";
import { PROBE_MARK } from "./adapters.ts";

if (import.meta.main) {
  console.log(PROBE_MARK + JSON.stringify(await surveyAdapters()));
  // Providers keep background work alive that would hold the process.
  Deno.exit(0);
}
