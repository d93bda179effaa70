/** Where this user's caches lie on each system. It creates nothing. */

/**
 * The directory for everything that can be had again: `$XDG_CACHE_HOME/seer` (default `~/.cache/seer`), on macOS
 * `~/Library/Caches/seer`, on Windows `%LOCALAPPDATA%\seer`; `SEER_CACHE` overrides all.
 *
 * @throws {Error} When none of the variables that name it is set.
 */
export function cacheDirectory(
  environment: (name: string) => string | undefined = (name) => Deno.env.get(name),
  system: string = Deno.build.os,
): string {
  const chosen = environment("SEER_CACHE");
  if (chosen) return chosen;
  if (system === "windows") {
    const local = environment("LOCALAPPDATA");
    if (local) return `${local}\\seer`;
  } else {
    const cache = environment("XDG_CACHE_HOME");
    if (cache) return `${cache}/seer`;
    const home = environment("HOME");
    if (home) return system === "darwin" ? `${home}/Library/Caches/seer` : `${home}/.cache/seer`;
  }
  throw new Error(
    "Cannot find the cache directory: HOME is not set; set SEER_CACHE to a directory that can be written",
  );
}
