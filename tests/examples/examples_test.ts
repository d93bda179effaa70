/** Runs every example for real, as a person would, on a few generated images. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { makeImages } from "./images.ts";

Deno.test("experiments in TypeScript run as they are printed in examples/", async (test) => {
  const temporary = await Deno.makeTempDir({ prefix: "seer-examples-" });
  const [images, runs] = [`${temporary}/images`, `${temporary}/runs`];
  await makeImages(images, { count: 24, categories: 2 });
  let weights = "";
  try {
    await test.step("01_pretrain.ts pretrains on a folder and names the run", async () => {
      const output = await runExample("01_pretrain.ts", [images, runs, "test-tiny", "3"]);
      assertStringIncludes(output, "step 3/3");
      weights = /weights ([0-9a-f]{16})… in \S*\/runs\/test-tiny-/.exec(output)?.[1] ?? "";
      assert(weights !== "", output);
    });

    await test.step("02_custom_recipe.ts sees every step of its own recipe", async () => {
      const output = await runExample("02_custom_recipe.ts", [images, runs, "3", "16"]);
      assertEquals(output.match(/^step \d\/3 {2}loss \d+\.\d+ {2}prototypes in use /gm)?.length, 3);
      assertMatch(output, /^finished after 3 steps, lowest loss \d/m);
    });

    await test.step("03_two_hosts.ts puts a trainer on each host, and the weights are those of one host", async () => {
      const output = await runExample("03_two_hosts.ts", [images, runs, "test-tiny", "3"]);
      const hosts = [...output.matchAll(/^trainer-\d on (\S+)$/gm)].map(([, host]) => host);
      assertEquals(new Set(hosts).size, 2);
      assertStringIncludes(output, `finished on two hosts, SHA-256 of the weights: ${weights}`);
    });

    await test.step("04_embed_and_search.ts prints the neighbours of images", async () => {
      const run = [...Deno.readDirSync(runs)].map(({ name }) => name).find((name) => name.startsWith("test-tiny"));
      const output = await runExample("04_embed_and_search.ts", [`${runs}/${run}`, images, "4"]);
      assertStringIncludes(output, "24 images, 24 numbers each, seen at 16 pixels");
      assertEquals(output.match(/^ {2}\S+\.png \(-?[01]\.\d{3}\)$/gm)?.length, 12);
    });

    await test.step("05_methods.ts pretrains by three methods", async () => {
      const output = await runExample("05_methods.ts", [images, runs, "test-tiny", "3", "16"]);
      for (const name of ["swav", "simclr", "supervised"]) {
        assertMatch(output, new RegExp(`^${name}: loss \\d+\\.\\d+, \\d\\.\\d+ of guessing`, "m"));
      }
      assertMatch(output, /^supervised: .*top-1 \d+\.\d%/m);
    });
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
});

/** What an example prints on standard output. */
async function runExample(name: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", new URL(`../../examples/${name}`, import.meta.url).pathname, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    signal: AbortSignal.timeout(110_000),
  }).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 0, `${name} ended with ${code}\n${text}\n${new TextDecoder().decode(stderr)}`);
  return text;
}
