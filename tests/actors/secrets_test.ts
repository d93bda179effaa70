import { assert, assertEquals } from "@std/assert";
import { digestOf, run, withRuns } from "./runs.ts";

const golden = (name: string) => new URL(`../golden/tls/${name}.pem`, import.meta.url).pathname;
const tls = { certificate: golden("certificate"), key: golden("key"), authority: golden("authority") };

Deno.test("a loader that may read its folder alone follows links out of it and reads images of sub-folders", async () => {
  await withRuns(async (place) => {
    const expected = digestOf(await run({ config: place.config({ cluster: { trainers: 1 } }) }));
    const elsewhere = await Deno.makeTempDir({ prefix: "linked-images-" });
    try {
      for (const name of ["image-003.png", "image-007.png"]) {
        await Deno.rename(`${place.images}/${name}`, `${elsewhere}/${name}`);
        await Deno.symlink(`${elsewhere}/${name}`, `${place.images}/${name}`);
      }
      assertEquals(digestOf(await run({ config: place.config({ cluster: { trainers: 1 } }) })), expected);
    } finally {
      await Deno.remove(elsewhere, { recursive: true });
    }
  });
});

Deno.test("over TLS a run gives the same bits, and its secret is in no argument, environment or file of it", async () => {
  await withRuns(async (place) => {
    const expected = digestOf(await run({ config: place.config() }));
    const secrets: string[] = [];
    const urls: string[] = [];
    const seen = new Map<string, string>();
    const texts: string[] = [];
    const config = place.config({ cluster: { tls } });
    const result = await run({
      config,
      onListening({ url, token }) {
        urls.push(url);
        secrets.push(token);
      },
      onEvent(event) {
        texts.push(JSON.stringify(event));
        if (event.kind !== "started" || Deno.build.os !== "linux") return;
        for (const file of ["cmdline", "environ"]) {
          seen.set(`${event.actor} ${file}`, readProcess(event.pid, file));
        }
      },
    });
    assertEquals(digestOf(result), expected);
    assert(urls[0].startsWith("wss://127.0.0.1:"), urls[0]);
    const [secret] = secrets;
    const key = (await Deno.readTextFile(tls.key)).split("\n")[1];
    if (Deno.build.os === "linux") assert([...seen.keys()].some((name) => name.startsWith("trainer-0")));
    for (const text of await textsUnder(config.run.folder)) texts.push(text);
    for (const text of [...seen.values(), ...texts, ...urls]) {
      assert(!text.includes(secret), text.slice(0, 200));
      assert(!text.includes(key), text.slice(0, 200));
    }
  });
});

Deno.test("connections that are refused are told, a flood of them as one event, and the run goes on", async () => {
  await withRuns(async (place) => {
    const knocks: Promise<number>[] = [];
    const result = await run({
      config: place.config({ cluster: { trainers: 1 } }),
      onListening({ url }) {
        for (let i = 0; i < 20; i++) {
          const knock = async () => {
            const response = await fetch(url.replace("ws:", "http:"));
            await response.body?.cancel();
            return response.status;
          };
          knocks.push(knock());
        }
      },
    });
    digestOf(result);
    assertEquals(new Set(await Promise.all(knocks)), new Set([426]));
    const refused = result.events.flatMap((event) => event.kind === "refused" ? [event] : []);
    assert(refused.length >= 1 && refused.length < 5, `${refused.length} events`);
    assertEquals([refused[0].reason, refused[0].count], ["this address speaks WebSocket only", 1]);
  });
});

/** What the system tells of a process to its owner. By `cat`: Deno itself opens these files only with all permissions. */
function readProcess(pid: number, file: string): string {
  const { stdout, success, stderr } = new Deno.Command("cat", { args: [`/proc/${pid}/${file}`] }).outputSync();
  assert(success, new TextDecoder().decode(stderr));
  return new TextDecoder("latin1").decode(stdout);
}

/** All files below `folder`, read as text. */
async function textsUnder(folder: string): Promise<string[]> {
  const texts: string[] = [];
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) texts.push(...await textsUnder(path));
    else texts.push(new TextDecoder("latin1").decode(await Deno.readFile(path)));
  }
  return texts;
}
