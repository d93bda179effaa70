/** The commands on real runs: interruption, resuming, evaluation with and without labels. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { delay } from "@std/async/delay";
import { readMetrics, readNotes } from "../../actors/run_files.ts";
import { alive } from "../actors/runs.ts";
import { makeImages } from "../examples/images.ts";
import { assertRefused, noGpu, program, run } from "./program.ts";

/** Reads a stream as text until it holds `text`, in the background. */
function follow(stream: ReadableStream<Uint8Array>, text: string): { seen: Promise<void>; all: Promise<string> } {
  const { promise: seen, resolve } = Promise.withResolvers<void>();
  const read = async () => {
    const decoder = new TextDecoder();
    let all = "";
    for await (const bytes of stream) {
      all += decoder.decode(bytes, { stream: true });
      if (all.includes(text)) resolve();
    }
    resolve();
    return all;
  };
  return { seen, all: read() };
}

const steps = "8";
const digestOf = (output: string) => /SHA-256: ([0-9a-f]{64})/.exec(output)?.[1];

Deno.test("Ctrl-C writes a checkpoint and prints the command that goes on to the same weights", async (test) => {
  const folder = await Deno.makeTempDir({ prefix: "seer-runs-" });
  await makeImages(`${folder}/images`, { count: 24, categories: 2 });
  const pretrain = (name: string) =>
    ["pretrain", "--preset", "test-tiny", "--steps", steps, "--checkpoint.everySteps", "3", "--data"].concat(
      [`${folder}/images`, "--run.folder", folder, "--name", name],
    );
  const path = `${folder}/stopped`;
  try {
    await test.step("SIGINT ends the run after its step with exit code 130", async () => {
      const child = program(pretrain("stopped")).spawn();
      const [output, errors] = [follow(child.stdout, `/${steps}  loss`), follow(child.stderr, "\0")];
      await output.seen;
      child.kill("SIGINT");
      const { code } = await child.status;
      const text = await output.all;
      assertEquals(code, 130, `${text}\n${await errors.all}`);
      assertMatch(text, /stopping after this step/);
      const before = Number(/interrupted before step (\d+)/.exec(text)?.[1]);
      assert(before >= 1 && before < Number(steps), text);
      assertStringIncludes(text, `go on: deno task pretrain --resume ${path}`);
      const latest = await Deno.readTextFile(`${path}/checkpoints/latest`);
      assertEquals(Number(latest.trim().slice("step-".length)), before);
    });

    let resumed: string | undefined;
    await test.step("--resume goes on to the end, and metrics hold every step once", async () => {
      const { code, output, errors } = await run(["pretrain", "--resume", path]);
      assertEquals(code, 0, errors);
      resumed = digestOf(output);
      assertEquals(readMetrics(path).map((record) => record.step), Array.from({ length: Number(steps) }, (_, i) => i));
    });

    await test.step("the run that was never interrupted has the same weights", async () => {
      const { output, errors } = await run(pretrain("whole"));
      assert(resumed !== undefined, errors);
      assertEquals(digestOf(output), resumed);
    });

    await test.step("--resume of a finished run says so", async () => {
      const { code, output } = await run(["pretrain", "--resume", path], noGpu);
      assertEquals(code, 0);
      assertStringIncludes(output, `it has finished: all ${steps} steps are done`);
    });

    await test.step("evaluate prints the table and writes it", async () => {
      const { code, output, errors } = await run(["evaluate", path, "--json", `${folder}/report.json`]);
      assertEquals(code, 0, errors);
      for (const name of ["trained", "random", "pixels"]) {
        assertMatch(output, new RegExp(`^${name} +\\d+ +\\d\\.\\d`, "m"));
      }
      const report = JSON.parse(await Deno.readTextFile(`${folder}/report.json`));
      assertEquals(report, JSON.parse(await Deno.readTextFile(`${path}/evaluation.json`)));
      assertEquals(report.rows.length, 3);
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("quickstart on images without labels pretrains, and then says why there is no table", async () => {
  const folder = await Deno.makeTempDir({ prefix: "seer-runs-" });
  try {
    await makeImages(`${folder}/images`, { count: 12 });
    await Deno.writeTextFile(`${folder}/images/0.png`, "damaged");
    const args = ["--preset", "test-tiny", "--steps", "3", "--data", `${folder}/images`, "--run.folder", folder];
    const { code, output, errors } = await run(["quickstart", ...args]);
    assertEquals(code, 0, errors);
    assertStringIncludes(output, "step 3/3");
    assertStringIncludes(output, "no table: the network is trained, but there are no labels to judge it by");
    assertStringIncludes(output, "12 images outside of them");
    assertMatch(output, /^unreadable image 0\.png replaced by \d+\.png: /m);
    assertMatch(output, /^weights: \S+\/model\.safetensors$/m);
    const [, made] = /^run: (\S+)$/m.exec(output) ?? [];
    assertRefused(await run(["evaluate", made], noGpu), ["12 images outside of them"]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a second SIGTERM ends the run at once without a checkpoint", async () => {
  const folder = await Deno.makeTempDir({ prefix: "seer-runs-" });
  try {
    await makeImages(`${folder}/images`, { count: 24, categories: 2 });
    const where = ["--data", `${folder}/images`, "--run.folder", folder, "--name", "twice"];
    const child = program(["pretrain", "--preset", "test-tiny", "--steps", "1000", ...where]).spawn();
    const [output, errors] = [follow(child.stdout, "/1000  loss"), follow(child.stderr, "\0")];
    await output.seen;
    const started = readNotes(`${folder}/twice`).flatMap(({ event }) => event.kind === "started" ? [event] : []);
    const controller = Number(await Deno.readTextFile(`${folder}/twice/run.lock`));
    const trainer = started.find(({ actor }) => actor === "trainer-0")?.pid ?? 0;
    // Frozen, so that the second signal comes before the first one's step is done.
    Deno.kill(trainer, "SIGSTOP");
    child.kill("SIGTERM");
    await delay(200);
    child.kill("SIGTERM");
    const { code } = await child.status;
    Deno.kill(trainer, "SIGCONT");
    const text = await output.all;
    assertEquals(code, 130, `${text}\n${await errors.all}`);
    assertMatch(text, /stopping after this step; press Ctrl-C again to stop without a checkpoint/);
    const saved = [...Deno.readDirSync(`${folder}/twice`)].some(({ name }) => name === "checkpoints");
    assertEquals(saved, false, text);
    assertEquals(await alive(controller), false);
    assert(started.length >= 6, "all actors had started");
    // Its host and actors, which would outlive a controller that was killed, end with one that has chosen to.
    const pids = started.map(({ pid }) => pid);
    const gone = async () => {
      while ((await Promise.all(pids.map(alive))).includes(true)) await delay(50);
    };
    await deadline(gone(), 20_000);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a run without a launcher that is killed leaves no process behind", async () => {
  const folder = await Deno.makeTempDir({ prefix: "seer-runs-" });
  try {
    await makeImages(`${folder}/images`, { count: 24, categories: 2 });
    const where = ["--data", `${folder}/images`, "--run.folder", folder, "--name", "alone"];
    const child = program(["pretrain", "--no-keeper", "--preset", "test-tiny", "--steps", "1000", ...where]).spawn();
    const [output, errors] = [follow(child.stdout, "/1000  loss"), follow(child.stderr, "\0")];
    await output.seen;
    const pids = readNotes(`${folder}/alone`).flatMap(({ event }) => event.kind === "started" ? [event.pid] : []);
    assert(pids.length >= 6, "all actors had started");
    child.kill("SIGKILL");
    await child.status;
    const gone = async () => {
      while ((await Promise.all(pids.map(alive))).includes(true)) await delay(50);
    };
    await deadline(gone(), 20_000);
    await Promise.all([output.all, errors.all]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
