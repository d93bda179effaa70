/** Runs in place of an actor, with its permissions: tries what an actor might be made to do and prints what came of it. */
/** Told over stdin, as everything is that a host tells an actor. */
const { options: { runFolder } } = JSON.parse(await firstLine());

const tries: Readonly<Record<string, () => unknown>> = {
  "read a system file": () => Deno.readTextFileSync("/etc/passwd"),
  "read the run's secret": () => Deno.readTextFileSync(`${runFolder}/join.secret`),
  "write a file": () => Deno.writeTextFileSync("/var/empty/x", "x"),
  "write to the program": () => Deno.writeTextFileSync(new URL("./written.txt", import.meta.url), "x"),
  "remove a file": () => Deno.removeSync("/var/empty/nothing"),
  "start a process": () => new Deno.Command("/bin/true").outputSync(),
  "start Deno": () => new Deno.Command(Deno.execPath()).outputSync(),
  "signal a process": () => Deno.kill(1, "SIGCONT"),
  "connect to another machine": () => Deno.connect({ hostname: "192.0.2.1", port: 9 }),
  "ask the cloud's metadata": () => fetch("http://169.254.169.254/latest/meta-data/"),
  "look up a name": () => Deno.resolveDns("example.org", "A"),
  "listen on all addresses": () => Deno.listen({ hostname: "0.0.0.0", port: 0 }).close(),
  "read a variable": () => Deno.env.get("HOME"),
  "read all variables": () => Deno.env.toObject(),
  "load a library": () => Deno.dlopen("/lib/x86_64-linux-gnu/libc.so.6", {}),
  "name the machine": () => Deno.hostname(),
  "list its addresses": () => Deno.networkInterfaces(),
  "import from a host": () => import(`https://${"example.org"}/x.ts`),
};

for (const [name, act] of Object.entries(tries)) {
  let found = "allowed";
  try {
    await act();
  } catch (error) {
    // What fails for another reason was let through.
    if (error instanceof Deno.errors.NotCapable) found = "denied";
    else if (error instanceof TypeError && /requires import access|not found in cache/i.test(error.message)) {
      found = "denied";
    } else if (error instanceof Error) found = `allowed: ${error.name}: ${error.message}`;
  }
  console.log(JSON.stringify([name, found]));
}
Deno.exit(0);

async function firstLine(): Promise<string> {
  const reader = Deno.stdin.readable.getReader();
  let text = "";
  while (!text.includes("\n")) text += new TextDecoder().decode((await reader.read()).value);
  return text;
}

export {};
