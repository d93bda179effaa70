/** Extractors on another host, asked directly: nobody else can do their work here. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { openExtractionHosts } from "../../api/extraction_hosts.ts";
import { modelSpec } from "../../config.ts";
import { openFolder } from "../../data/folder_source.ts";
import { openDevice } from "../../device/open.ts";
import { buildEmbedding } from "../../evaluate/embedding.ts";
import { extractReadable, openImages } from "../../evaluate/features.ts";
import { stateDict } from "../../nn/state_dict.ts";
import { providersPresent } from "../devices.ts";
import { gpuEnvironment, withRuns } from "../actors/runs.ts";
import { program } from "../cli/program.ts";

const tls = { certificate: "", key: "", authority: "" };

Deno.test({
  name: "extractors build the network from the weights sent, and give this process's bits until they are lost",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await withRuns(async ({ config, images: folder }) => {
      await Deno.writeTextFile(`${folder}/broken.png`, "no image");
      const device = await openDevice({ provider: providersPresent()[0] });
      const model = { spec: modelSpec(config()), seed: 7, weights: new Map() };
      const { trunk, embed } = buildEmbedding(device, model);
      // Sent weights are those of seed 7, on top of another seed: the extractor must have taken them.
      const sent = { ...model, seed: 8, weights: await stateDict(trunk) };
      const source = await openFolder(folder);
      const options = { device, embed, images: openImages(source), ids: [...Array(source.size).keys()], size: 16 };
      const expected = await extractReadable({ ...options, batch: 8 });
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = listener.addr;
      listener.close();
      const lines: string[] = [];
      const opening = openExtractionHosts({ count: 2, listen: "127.0.0.1", port, tls, token: "of this test" }, {
        model: sent,
        extractors: 2,
        log: (line) => lines.push(line),
      });
      const host = program(["host", "--join", `ws://127.0.0.1:${port}/`], {
        ...gpuEnvironment(),
        SEER_TOKEN: "of this test",
      }).spawn();
      const hosts = await opening;
      try {
        const workers = hosts.workers(options, 8);
        assertEquals(workers.map(({ name }) => name), ["extractor-0", "extractor-1"]);
        for (const worker of workers) assertEquals(await worker.extract(options.ids), expected);
        assertEquals(expected?.ids.length, source.size - 1);
        assert(lines.some((line) => line.startsWith("extractor-1 ready: ")), lines.join("\n"));
        host.kill("SIGKILL");
        await assertRejects(() => workers[0].extract(options.ids), Error, "extractor-0: connection lost");
      } finally {
        await hosts.close();
        await Promise.all([host.stdout.cancel(), host.stderr.cancel(), host.status]);
        device.destroy();
      }
    });
  },
});
