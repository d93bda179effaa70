/**
 * The controller's process of a run under fire: `main.ts pretrain` as its launcher starts it, with breakpoints in its
 * actors. It tells each event on stdout the moment it is in the run's files, and can be made to stand still there: what is
 * written down was told to nobody. `kept_run.ts` is its launcher.
 */
import { parseCommandLine } from "../cli/arguments.ts";
import { pretrainCommand } from "../cli/pretrain.ts";
import type { RunEvent } from "../actors/events.ts";

/** What tells its events from its other lines. */
export const toldMark = "\u001e";

/** One told line, after the mark. */
export type Told = { readonly event: RunEvent } | { readonly stands: true };

function tell(told: Told): void {
  let bytes = new TextEncoder().encode(`${toldMark}${JSON.stringify(told)}\n`);
  while (bytes.length > 0) bytes = bytes.subarray(Deno.stdout.writeSync(bytes));
}

/** Whether the launcher wants it to stand still at such an event: each wish is a file with its kind, and counts once. */
function wished(file: string, kind: string): boolean {
  try {
    if (Deno.readTextFileSync(file) !== kind) return false;
    Deno.removeSync(file);
    return true;
  } catch {
    return false;
  }
}

if (import.meta.main) {
  const [breakpoints, standFile, ...argv] = Deno.args;
  const staged = {
    breakpoints,
    onEvent(event: RunEvent): void {
      if (event.kind === "status" || event.kind === "log") return;
      const stands = wished(standFile, event.kind);
      tell({ event });
      if (!stands) return;
      tell({ stands });
      // Its only thread: nothing is sent any more.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    },
  };
  Deno.exit(await pretrainCommand(parseCommandLine(argv), argv, { staged }));
}
