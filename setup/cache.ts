/**
 * Where SEER keeps what can be fetched or built again: unpacked drivers, shader caches, rendered images. It knows
 * folders and environment variables, and nothing of what is kept in them.
 */

/** What {@linkcode cacheFolderOf} decides from. */
export interface CachePlace {
  /** Operating system, as `Deno.build.os`. */
  readonly os: string;
  /** Looks up an environment variable. */
  readonly environment: (name: string) => string | undefined;
}

/**
 * The cache folder for a place: `$SEER_CACHE`, else `$XDG_CACHE_HOME/seer`, else `~/.cache/seer`
 * (`~/Library/Caches/seer` on macOS, `%LOCALAPPDATA%\seer` on Windows).
 *
 * @throws {Error} when neither the overrides nor a home folder are known
 */
export function cacheFolderOf({ os, environment }: CachePlace): string {
  const own = environment("SEER_CACHE");
  if (own) return own;
  const xdg = environment("XDG_CACHE_HOME");
  if (xdg) return `${xdg}/seer`;
  if (os === "windows") {
    const local = environment("LOCALAPPDATA");
    if (local) return `${local}\\seer`;
  }
  const home = environment("HOME") || environment("USERPROFILE");
  if (!home) {
    throw new Error("Finding the cache folder needs a home folder, and HOME is not set; set SEER_CACHE to a folder");
  }
  return os === "darwin" ? `${home}/Library/Caches/seer` : `${home}/.cache/seer`;
}

/**
 * The cache folder of this user on this machine; it may not exist yet.
 *
 * @throws {Error} when neither `SEER_CACHE` nor a home folder is known
 */
export function cacheFolder(): string {
  return cacheFolderOf({ os: Deno.build.os, environment: (name) => Deno.env.get(name) });
}
