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

/**
 * Runs `program` to its end; never rejects because the program is missing or fails.
 *
 * @throws {Deno.errors.NotCapable} without permission to run it
 */
export async function runCommand(program: string, options: CommandOptions): Promise<CommandResult> {
  const abort = new AbortController();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    abort.abort();
  }, options.timeoutMs);
  try {
    const output = await new Deno.Command(program, {
      args: [...options.args],
      env: { ...options.env },
      cwd: options.cwd,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      signal: abort.signal,
    }).output();
    const decoder = new TextDecoder();
    return {
      code: output.code,
      stdout: decoder.decode(output.stdout),
      stderr: decoder.decode(output.stderr),
      timedOut,
    };
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      return { code: 127, stdout: "", stderr: `${program}: not found`, timedOut: false };
    }
    throw error;
  } finally {
    clearTimeout(timer);
  }
}
