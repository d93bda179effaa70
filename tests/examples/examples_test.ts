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

Deno.test("an ablation that is killed goes on where it stopped, and writes its table and plot", async () => {
  const temporary = await Deno.makeTempDir({ prefix: "seer-ablation-" });
  try {
    await makeImages(`${temporary}/images`, { count: 24, categories: 2 });
    const out = `${temporary}/out`;
    const args = ["--data", `${temporary}/images`, "--out", out, "--preset", "test-tiny", "--side", "16"];
    const few = [...args, "--seeds", "1", "--steps", "3"];
    const child = example("ablations/crops.ts", few).spawn();
    let printed = "";
    for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
      printed += text;
      if (printed.includes("2 + 2 small, seed 0")) break;
    }
    child.kill("SIGKILL");
    await Promise.all([child.stderr.cancel(), child.status]);
    assertStringIncludes(printed, "2, seed 0");
    const output = await runExample("ablations/crops.ts", few);
    assertEquals(output.match(/^.*, seed 0$/gm), ["2 + 2 small, seed 0", "2 + 4 small, seed 0"]);
    assertMatch(output, /^\| 2 \+ 4 small \| [01]\.\d{4} \| one seed \| 0 \|$/m);
    assertStringIncludes(await Deno.readTextFile(`${out}/plot.svg`), "2 + 4 small");
    const { code, stderr } = await example("ablations/head.ts", ["--seed", "1"]).output();
    assertEquals(code, 2);
    assertStringIncludes(new TextDecoder().decode(stderr), "unknown or without a value: --seed");
  } finally {
    await Deno.remove(temporary, { recursive: true });
  }
});

function example(name: string, args: readonly string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", new URL(`../../examples/${name}`, import.meta.url).pathname, ...args],
    env: { NO_COLOR: "1" },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(110_000),
  });
}

/** What an example prints on standard output. */
async function runExample(name: string, args: readonly string[]): Promise<string> {
  const { code, stdout, stderr } = await example(name, args).output();
  const text = new TextDecoder().decode(stdout);
  assertEquals(code, 0, `${name} ended with ${code}\n${text}\n${new TextDecoder().decode(stderr)}`);
  return text;
}
