/** The launcher and the controller as processes: either may be killed, and the run ends with the same weights. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { deadline } from "@std/async/deadline";
import { delay } from "@std/async/delay";
import { readCommits, readMetrics, readNotes } from "../../actors/run_files.ts";
import { keep } from "../../cli/keeper.ts";
import { startPulseFile } from "../../cli/signs_of_life.ts";
import { makeImages } from "../examples/images.ts";
import { assertRefused, program, run } from "./program.ts";

const steps = 10;

/** A folder with images, and the digest of the run that nothing happens to. */
async function withRuns(
  test: (place: { folder: string; pretrain(name: string): string[]; expected: string }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "seer-keeper-" });
  const pretrain = (name: string) =>
    ["pretrain", "--preset", "test-tiny", "--steps", `${steps}`, "--checkpoint.everySteps", "2", "--data"].concat(
      [`${folder}/images`, "--run.folder", folder, "--name", name],
    );
  try {
    await makeImages(`${folder}/images`, { count: 24, categories: 2 });
    const { code, errors } = await run([...pretrain("whole"), "--no-keeper"]);
    assertEquals(code, 0, errors);
    await test({ folder, pretrain, expected: finalDigest(`${folder}/whole`) });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function finalDigest(path: string): string {
  const last = readNotes(path).at(-1)?.event;
  assert(last?.kind === "ended" && last.outcome === "finished", JSON.stringify(last));
  return last.digest;
}

/** Waits until the run has taken `step` and has a checkpoint. */
async function reached(path: string, step: number): Promise<void> {
  const wait = async () => {
    while (true) {
      try {
        if (Deno.statSync(`${path}/checkpoints/latest`).isFile && (readMetrics(path).at(-1)?.step ?? -1) >= step) {
          return;
        }
      } catch {
        // It has not come that far.
      }
      await delay(20);
    }
  };
  await deadline(wait(), 60_000);
}

const pidOf = (path: string) => Number(Deno.readTextFileSync(`${path}/run.lock`));

async function ended(child: Deno.ChildProcess): Promise<{ code: number; output: string; errors: string }> {
  const { code, stdout, stderr } = await deadline(child.output(), 120_000);
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout), errors: decoder.decode(stderr) };
}

Deno.test("a controller that is killed is started anew, twice, and the run ends with the same weights", async () => {
  await withRuns(async ({ folder, pretrain, expected }) => {
    const path = `${folder}/killed`;
    const child = program(pretrain("killed")).spawn();
    const result = ended(child);
    for (const step of [3, 6]) {
      await reached(path, step);
      Deno.kill(pidOf(path), "SIGKILL");
      await delay(300);
    }
    const { code, output, errors } = await result;
    assertEquals([code, finalDigest(path)], [0, expected], `${output}\n${errors}`);
    assertEquals(errors.match(/the controller was ended by SIGKILL: starting it anew/g)?.length, 2, errors);
    assertEquals(readMetrics(path).map(({ step }) => step), Array.from({ length: steps }, (_, step) => step));
    // Its actors outlived it: none started anew, and nothing was read back from a checkpoint.
    const kinds = readNotes(path).map(({ event }) => event.kind);
    const count = (kind: string) => kinds.filter((each) => each === kind).length;
    assertEquals([count("adopted"), count("starting"), count("resumed")], [2, 1, 0], kinds.join());
    assertEquals(readCommits(path).map(({ step }) => step), Array.from({ length: steps }, (_, step) => step));
  });
});

Deno.test("a run goes on without its launcher, refuses a second controller meanwhile, and ends the same", async () => {
  await withRuns(async ({ folder, pretrain, expected }) => {
    const path = `${folder}/orphan`;
    const child = program(pretrain("orphan")).spawn();
    const result = ended(child);
    await reached(path, 1);
    child.kill("SIGKILL");
    assertRefused(await run(["pretrain", "--resume", path]), [`process ${pidOf(path)} carries it on`]);
    // The controller has this process's pipes, so its end is that of the output.
    await result;
    assertEquals(finalDigest(path), expected);
  });
});

Deno.test("a host elsewhere comes back to a controller that was killed, and the run ends with the same weights", async () => {
  await withRuns(async ({ folder, pretrain, expected }) => {
    const path = `${folder}/hosts`;
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr;
    listener.close();
    const child = program([...pretrain("hosts"), "--hosts", "2", "--cluster.port", `${port}`]).spawn();
    const result = ended(child);
    await deadline(
      (async () => {
        while (!await Deno.stat(`${path}/join.secret`).then(() => true, () => false)) await delay(20);
      })(),
      60_000,
    );
    const host = program(["host", "--join", `ws://127.0.0.1:${port}/`, "--token-file", `${path}/join.secret`]).spawn();
    const served = ended(host);
    await reached(path, 3);
    Deno.kill(pidOf(path), "SIGKILL");
    const [run, host1] = await Promise.all([result, served]);
    assertEquals([run.code, finalDigest(path)], [0, expected], `${run.output}\n${run.errors}\n${host1.output}`);
    assertMatch(host1.output, /has lost the controller and looks for it/);
    assertEquals(host1.code, 0, `${host1.output}\n${host1.errors}`);
    const joined = readNotes(path).filter(({ event }) => event.kind === "host-joined" && event.host !== "host-0");
    assertEquals(joined.length, 2);
  });
});

/** A controller's process that is none: it notes a run and writes its status once, then does as told, or ends at once. */
const mute = (then: string) => `
  const kept = JSON.parse(new TextDecoder().decode((await Deno.stdin.readable.getReader().read()).value));
  if (kept.starts > 0) Deno.exit(0);
  const run = Deno.args[0];
  Deno.writeTextFileSync(run + "/status.json", "{}");
  Deno.writeTextFileSync(kept.notes + ".part", JSON.stringify({ run, port: 1 }));
  Deno.renameSync(kept.notes + ".part", kept.notes);
  ${then}
`;

const silences = {
  "stands still": {
    then: "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);",
    sign: "sign of life for 1 s",
  },
  "is frozen": {
    then: `Deno.writeTextFileSync(kept.notes + ".pulse", "1"); Deno.kill(Deno.pid, "SIGSTOP");`,
    sign: "pulse for 0.6 s",
  },
};

/** Keeps such a controller; the starts with these numbers fail. */
async function keepMute(
  then: string,
  failing: readonly number[] = [],
): Promise<{ code: number; run: string; starts: (readonly string[])[]; lines: string[] }> {
  const run = await Deno.makeTempDir({ prefix: "seer-mute-" });
  const entry = `${run}/mute.ts`;
  await Deno.writeTextFile(entry, mute(then));
  const starts: (readonly string[])[] = [];
  const lines: string[] = [];
  try {
    const code = await keep({
      start(args) {
        if (failing.includes(starts.push(args) - 1)) throw new Error("no process is to be had");
        const line = ["run", "-A", "--no-check", entry, run];
        return new Deno.Command(Deno.execPath(), { args: line, stdin: "piped", stdout: "null", stderr: "null" })
          .spawn();
      },
      argv: ["pretrain"],
      token: "none",
      hosts: 1,
      restarts: 2,
      silenceMs: 1_000,
      frozenMs: 600,
      log: (line) => lines.push(line),
    });
    return { code, run, starts, lines };
  } finally {
    await Deno.remove(run, { recursive: true });
  }
}

for (const [what, { then, sign }] of Object.entries(silences)) {
  Deno.test(`a controller that ${what} is ended and started anew`, async () => {
    const { code, run, starts, lines } = await keepMute(then);
    assertEquals([code, starts.length], [0, 2], lines.join("\n"));
    assertEquals(starts[1].slice(0, 3), ["pretrain", "--resume", run]);
    assertEquals(lines, [
      `the controller has given no ${sign}: it is ended`,
      "the controller was ended by SIGKILL: starting it anew",
    ]);
  });
}

Deno.test("a controller that cannot be started is tried again, but not for ever, and not before its run began", async () => {
  const dies = `Deno.kill(Deno.pid, "SIGKILL");`, why = "not started (no process is to be had)";
  const again = await keepMute(dies, [1]);
  assertEquals([again.code, again.lines], [0, [
    "the controller was ended by SIGKILL: starting it anew",
    `the controller was ${why}: starting it anew`,
  ]]);
  const never = await keepMute(dies, [1, 2]);
  assertEquals([never.code, never.lines], [1, [
    "the controller was ended by SIGKILL: starting it anew",
    `the controller was ${why}: starting it anew`,
    `error: the controller was ${why}; 2 new starts gave no new step`,
    `go on from the last checkpoint: deno task pretrain --resume ${never.run}`,
  ]]);
  const first = await keepMute(dies, [0]);
  assertEquals([first.code, first.lines], [1, [
    `error: the controller was ${why}, and its run had not begun: start it again`,
  ]]);
});

Deno.test("a pulse goes on while the main thread is busy, and ends when it is told to", async () => {
  const file = await Deno.makeTempFile({ prefix: "seer-pulse-" });
  const read = () => Number(Deno.readTextFileSync(file));
  const end = startPulseFile(file);
  try {
    for (let wait = 0; read() < 1; wait++) {
      assert(wait < 500, "no pulse comes");
      await delay(20);
    }
    const before = read();
    for (const until = performance.now() + 900; performance.now() < until;);
    assert(read() > before, "it stood still with the main thread");
  } finally {
    end();
    await delay(50);
  }
  const last = Deno.readTextFileSync(file);
  await delay(600);
  assertEquals(Deno.readTextFileSync(file), last);
  await Deno.remove(file);
});
