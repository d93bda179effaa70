/** Runs the program as a user does, for tests of its commands. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";

/** How the program ended and what it printed. */
export interface Ended {
  readonly code: number;
  readonly output: string;
  readonly errors: string;
}

const main = new URL("../../main.ts", import.meta.url).pathname;

/** A variable that hides every driver, so that a test fails if the GPU is looked for. */
export const noGpu = { VK_DRIVER_FILES: "/nowhere/none.json", SEER_SYSTEM_VULKAN: "1" } as const;

/** The command that runs `main.ts` with these arguments. */
export function program(args: readonly string[], env: Readonly<Record<string, string>> = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", main, ...args],
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}

/** Runs `main.ts` to its end. */
export async function run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Ended> {
  const { code, stdout, stderr } = await program(args, env).output();
  const decoder = new TextDecoder();
  return { code, output: decoder.decode(stdout), errors: decoder.decode(stderr) };
}

/** Asserts that the program refused in one line that says `expected`, with a non-zero exit code. */
export function assertRefused({ code, errors }: Ended, expected: readonly string[]): void {
  assert(code !== 0, `expected a failure, found exit code 0\n${errors}`);
  const lines = errors.trim().split("\n");
  assertEquals(lines.length, 1, errors);
  assert(lines[0].startsWith("error: "), errors);
  for (const text of expected) assertStringIncludes(lines[0], text);
}
