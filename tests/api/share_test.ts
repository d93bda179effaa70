import { assert, assertEquals, assertRejects } from "@std/assert";
import { evaluateProtocol } from "../../api/evaluate_protocol.ts";
import { program } from "../cli/program.ts";
import { GpuClient } from "../../api/gpu_client.ts";
import { digestOf, gpuEnvironment, run, withRuns, writeImages } from "../actors/runs.ts";

Deno.test({
  name: "features by several processes have the bits of one, and a protocol finds the same by two",
  // The run in this process opens a device whose provider keeps background work.
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await withRuns(async ({ config, images }) => {
      const settled = config({ steps: 3 });
      digestOf(await run({ config: settled, singleProcess: true }));
      const weights = `${settled.run.folder}/${settled.run.name}`;
      await Deno.writeTextFile(`${weights}/run.json`, JSON.stringify({ config: settled }));
      const data = `${images}-labelled`;
      for (const name of ["a", "b"]) {
        await Deno.mkdir(`${data}/${name}`, { recursive: true });
        await writeImages(`${data}/${name}`, 50);
      }
      const clients = [0, 1, 2].map(() => GpuClient.startWith({}));
      try {
        const ids = Array.from({ length: 100 }, (_, i) => i);
        const request = { kind: "share", weights, data, size: 16, adapter: { provider: "deno" } } as const;
        const parts = await Promise.all(
          [ids.slice(0, 64), ids.slice(64), ids].map((part, i) => clients[i].request({ ...request, ids: part })),
        );
        const counts = parts.map(({ answer }) => answer.kind === "features" ? answer.rows : 0);
        assertEquals(counts, [64, 36, 100]);
        assertEquals(new Uint8Array([...parts[0].bytes, ...parts[1].bytes]), parts[2].bytes);
        assert(parts[2].bytes.some((byte) => byte !== 0));
      } finally {
        for (const client of clients) await client.close();
      }
      const options = { weights, data, settings: { neighbours: [3], size: 16 } };
      assertEquals(
        await evaluateProtocol("knn", { ...options, trainers: 2 }),
        await evaluateProtocol("knn", options),
      );
      await assertRejects(() => evaluateProtocol("finetune", { ...options, trainers: 2 }), Error, "one device");
    });
  },
});

Deno.test({
  name: "a protocol finds the same with a second host, whose trainers extract too",
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    await withRuns(async ({ config, images }) => {
      const settled = config({ steps: 3 });
      digestOf(await run({ config: settled, singleProcess: true }));
      const weights = `${settled.run.folder}/${settled.run.name}`;
      await Deno.writeTextFile(`${weights}/run.json`, JSON.stringify({ config: settled }));
      const data = `${images}-labelled`;
      for (const name of ["a", "b"]) {
        await Deno.mkdir(`${data}/${name}`, { recursive: true });
        await writeImages(`${data}/${name}`, 120);
      }
      await Deno.writeTextFile(`${data}/a/broken.png`, "no image");
      const options = { weights, data, settings: { neighbours: [3], size: 16 } };
      const expected = await evaluateProtocol("knn", options);
      assertEquals(expected.unreadable.length, 1);
      const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
      const { port } = listener.addr;
      listener.close();
      const tls = { certificate: "", key: "", authority: "" };
      const place = { count: 2, listen: "127.0.0.1", port, tls, token: "of this test" };
      const found = evaluateProtocol("knn", { ...options, features: "head", trainers: 3, hosts: place });
      const env = { ...gpuEnvironment(), SEER_TOKEN: "of this test" };
      let code = 1, output = "";
      // It may come before anybody listens.
      for (let attempt = 0; attempt < 30 && code !== 0; attempt++) {
        const result = await program(["host", "--join", `ws://127.0.0.1:${port}/`], env).output();
        [code, output] = [result.code, new TextDecoder().decode(result.stdout)];
      }
      assertEquals(code, 0, output);
      assertEquals(await found, await evaluateProtocol("knn", { ...options, features: "head" }));
      const hosts = {
        count: 3,
        listen: "127.0.0.1",
        port: 0,
        tls: { certificate: "", key: "", authority: "" },
        token: "",
      };
      await assertRejects(
        () => evaluateProtocol("knn", { ...options, trainers: 2, hosts }),
        Error,
        "a trainer for each",
      );
    });
  },
});
