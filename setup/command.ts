/**
 * Runs another program to its end under a deadline and hands back what it printed. It knows nothing of what the
 * programs do.
 */

/** How {@linkcode runCommand} runs a program. */
export interface CommandOptions {
  readonly args: readonly string[];
  /** The program is ended with SIGKILL after this long. */
  readonly timeoutMs: number;
  /** Variables added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

/** What a program printed and how it ended. */
export interface CommandResult {
  /** Exit status; 127 when the program does not exist. */
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Whether the deadline ended it. */
  readonly timedOut: boolean;
}

/** After a program has ended, how long its output is awaited: a process that it started may hold the pipes open. */
const DRAIN_MS = 2000;

/** Everything that a pipe carries, as text; `stop` gives up waiting for its end. */
function collect(stream: ReadableStream<Uint8Array>): { text: () => string; done: Promise<void>; stop: () => void } {
  const decoder = new TextDecoder();
  const reader = stream.getReader();
  let text = "";
  const read = async () => {
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      text += decoder.decode(part.value, { stream: true });
    }
  };
  // A reader that was stopped has said all it will say.
  return { text: () => text, done: read().catch(() => {}), stop: () => void reader.cancel().catch(() => {}) };
}

/**
 * Runs `program` to its end; never rejects because the program is missing or fails.
 *
 * @throws {Deno.errors.NotCapable} without permission to run it
 */
export async function runCommand(program: string, options: CommandOptions): Promise<CommandResult> {
  let child: Deno.ChildProcess;
  try {
    child = new Deno.Command(program, {
      args: [...options.args],
      env: { ...options.env },
      cwd: options.cwd,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    return { code: 127, stdout: "", stderr: `${program}: not found`, timedOut: false };
  }
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, options.timeoutMs);
  const [stdout, stderr] = [collect(child.stdout), collect(child.stderr)];
  const { code } = await child.status;
  clearTimeout(timer);
  const drain = setTimeout(() => {
    stdout.stop();
    stderr.stop();
  }, DRAIN_MS);
  await Promise.all([stdout.done, stderr.done]);
  clearTimeout(drain);
  return { code, stdout: stdout.text(), stderr: stderr.text(), timedOut };
}
