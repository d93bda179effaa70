/**
 * The program: one actor when its first argument is `actor`, else the command line, which prints an error in one line and
 * ends with its exit code. Each is loaded when it is wanted: many actors start at once, and must start soon.
 */

if (import.meta.main) {
  if (Deno.args[0] === "actor") {
    const { runActorProcess } = await import("./actors/runtime/process.ts");
    const { processRoles } = await import("./actors/roles.ts");
    const { runPolicy } = await import("./actors/who_may_send.ts");
    await runActorProcess(processRoles, { policy: runPolicy });
  }
  try {
    const { main } = await import("./cli/main.ts");
    Deno.exit(await main(Deno.args));
  } catch (error) {
    if (Deno.env.get("SEER_DEBUG") === "1") console.error(error);
    else console.error(`error: ${error instanceof Error ? error.message : error}`);
    Deno.exit(1);
  }
}
