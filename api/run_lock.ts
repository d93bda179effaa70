/** One process at a time may carry a run on: a lock on a file of its folder, which the system gives back with the process. */
import { ConfigError } from "../config.ts";

/**
 * Locks the run in `folder`, which is made if it is missing, until the result is disposed of or this process ends.
 *
 * @throws {ConfigError} when another process has the lock.
 */
export function lockRun(folder: string): Disposable {
  Deno.mkdirSync(folder, { recursive: true });
  const file = Deno.openSync(`${folder}/run.lock`, { create: true, read: true, write: true });
  if (!file.tryLockSync(true)) {
    const holder = new Uint8Array(32);
    const length = file.readSync(holder) ?? 0;
    file.close();
    const pid = new TextDecoder().decode(holder.subarray(0, length)).trim();
    throw new ConfigError(
      "resume",
      `cannot go on with ${folder}: process ${pid} carries it on; wait for its end, or stop it with \`kill ${pid}\``,
    );
  }
  file.truncateSync();
  file.writeSync(new TextEncoder().encode(`${Deno.pid}\n`));
  return { [Symbol.dispose]: () => file.close() };
}
