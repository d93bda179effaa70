/** Certificates from the files that a configuration or command line names. It knows no socket. */
import { ConfigError } from "../config/error.ts";
import type { Tls } from "../wire/tls.ts";

/** Paths of PEM files; empty for none. */
export interface TlsFiles {
  readonly certificate: string;
  readonly key: string;
  readonly authority: string;
}

/**
 * The certificates in `files`; undefined when no file is named.
 *
 * @param prefix What the options are called: `cluster.tls.`.
 * @throws {ConfigError} naming the option, when its file cannot be read or is no PEM.
 */
export function readTls(files: TlsFiles, prefix: string = "cluster.tls."): Tls | undefined {
  const read = (name: keyof TlsFiles): string | undefined => {
    const path = files[name];
    if (path === "") return undefined;
    let text: string;
    try {
      text = Deno.readTextFileSync(path);
    } catch (error) {
      throw new ConfigError(
        `${prefix}${name}`,
        `option ${prefix}${name}: cannot read ${path}: ${error instanceof Error ? error.message : error}`,
      );
    }
    if (text.includes("-----BEGIN ")) return text;
    throw new ConfigError(
      `${prefix}${name}`,
      `option ${prefix}${name}: ${path} is no PEM file; it must hold a line -----BEGIN …-----`,
    );
  };
  const tls = { certificate: read("certificate"), key: read("key"), authority: read("authority") };
  return Object.values(tls).every((text) => text === undefined) ? undefined : tls;
}
