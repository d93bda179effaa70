/**
 * How other machines join a run: what to tell their people, and where the run's secret lies for them. The secret itself
 * is never printed, logged, or put into an address or an argument.
 */
import { secretFile } from "../actors/permissions.ts";
import { ConfigError } from "../config.ts";

/** The variable that a secret may come in. */
export const secretVariable = "SEER_TOKEN";

/** What to run on other machines; writes the secret to a file in the run's folder that only its owner can read. */
export function joinText(url: string, { token, run }: { token: string; run: string }): string {
  Deno.mkdirSync(run, { recursive: true });
  const path = `${run}/${secretFile}`;
  Deno.writeTextFileSync(path, `${token}\n`, { mode: 0o600 });
  // An existing file keeps its mode when it is written.
  if (Deno.build.os !== "windows") Deno.chmodSync(path, 0o600);
  return `waiting for hosts; copy ${path}, which is a secret, to each of them and run there:\n` +
    `  deno task seer host --join ${url} --token-file ${secretFile}`;
}

/**
 * The secret that the command line or the environment gives; undefined without one. The variable is gone afterwards, so
 * that nothing which this process starts can read it.
 *
 * @throws {ConfigError} for a secret among the arguments, or a file that cannot be read or is empty.
 */
export function givenSecret({ token, tokenFile }: { token?: string; tokenFile?: string }): string | undefined {
  if (token !== undefined) {
    throw new ConfigError(
      "token",
      "option --token is refused: other users of the machine can read arguments; " +
        `pass --token-file FILE or set the variable ${secretVariable}`,
    );
  }
  const fromEnvironment = Deno.env.get(secretVariable);
  Deno.env.delete(secretVariable);
  if (tokenFile === undefined) return fromEnvironment === "" ? undefined : fromEnvironment;
  let text: string;
  try {
    text = Deno.readTextFileSync(tokenFile).trim();
  } catch (error) {
    throw new ConfigError(
      "token-file",
      `option --token-file: cannot read ${tokenFile}: ${error instanceof Error ? error.message : error}`,
    );
  }
  if (text === "") throw new ConfigError("token-file", `option --token-file: ${tokenFile} is empty`);
  return text;
}
