/**
 * Reads apt's source lists (one-line `.list` and deb822 `.sources`) and derives from them a list of the distribution's
 * own archives, plus its backports from the same mirror. Pure text in, text out: it reads no file and runs nothing.
 */

/** One place that apt fetches from. */
export interface AptSource {
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
  /** Keyring path, or the key's own text over several lines as deb822 allows. */
  readonly signedBy?: string;
  /** `yes` when the owner of the machine trusts the archive without a signature. */
  readonly trusted?: string;
}

/** Sources in the one-line form of `sources.list(5)`; lines that are not `deb` are skipped. */
export function parseOneLine(text: string): AptSource[] {
  const sources: AptSource[] = [];
  for (const raw of text.split("\n")) {
    const line = raw.replace(/#.*$/, "").trim();
    const match = /^deb\s+(?:\[([^\]]*)\]\s+)?(\S+)\s+(\S+)\s*(.*)$/.exec(line);
    if (!match) continue;
    const [, bracket = "", uri, suite, components] = match;
    const options = new Map(
      bracket.trim().split(/\s+/).map((pair) => {
        const [name, ...value] = pair.split("=");
        return [name.toLowerCase(), value.join("=")];
      }),
    );
    sources.push({
      uris: [uri],
      suites: [suite],
      components: components.split(/\s+/).filter(Boolean),
      signedBy: options.get("signed-by"),
      trusted: options.get("trusted"),
    });
  }
  return sources;
}

function parseStanza(stanza: string): Map<string, string> {
  const fields = new Map<string, string>();
  let last = "";
  for (const line of stanza.split("\n")) {
    if (line.startsWith("#")) continue;
    if (/^[ \t]/.test(line)) {
      if (last) fields.set(last, `${fields.get(last)}\n${line}`);
      continue;
    }
    const colon = line.indexOf(":");
    if (colon < 0) continue;
    last = line.slice(0, colon).trim().toLowerCase();
    fields.set(last, line.slice(colon + 1).trim());
  }
  return fields;
}

/** Sources in deb822 form (`.sources` files); disabled stanzas and those without `deb` are skipped. */
export function parseDeb822(text: string): AptSource[] {
  const words = (value: string | undefined) => (value ?? "").split(/\s+/).filter(Boolean);
  const sources: AptSource[] = [];
  for (const stanza of text.replaceAll("\r", "").split(/\n[ \t]*\n/)) {
    const fields = parseStanza(stanza);
    if (/^(no|false|0|off|without|disable)$/i.test(fields.get("enabled") ?? "yes")) continue;
    if (!words(fields.get("types")).includes("deb")) continue;
    sources.push({
      uris: words(fields.get("uris")),
      suites: words(fields.get("suites")),
      components: words(fields.get("components")),
      signedBy: fields.get("signed-by"),
      trusted: fields.get("trusted"),
    });
  }
  return sources;
}

function isOwnSuite(suite: string, codename: string): boolean {
  const own = new RegExp(`^${codename}(?:$|-updates$|-security$|/updates$|-backports$)`);
  return own.test(suite) || /^(?:stable|oldstable)(?:$|-updates$|-security$)/.test(suite);
}

function isOwnArchive(source: AptSource): boolean {
  if (!source.components.includes("main")) return false;
  if (source.signedBy && /(?:debian|ubuntu)[^/]*archive/.test(source.signedBy)) return true;
  return source.uris.some((uri) => /\/(?:debian|ubuntu)[^/]*(?:\/|$)/i.test(uri));
}

/**
 * The sources among `sources` that are the distribution's own suites for `codename`, third parties left out. Where no
 * mirror can be recognised by its address or keyring, every source that carries one of those suites is taken.
 */
export function ownSources(sources: readonly AptSource[], codename: string): AptSource[] {
  const matching = sources
    .map((source) => ({
      ...source,
      uris: source.uris.filter((uri) => !uri.startsWith("cdrom:")),
      suites: source.suites.filter((suite) => isOwnSuite(suite, codename)),
    }))
    .filter((source) => source.suites.length > 0 && source.uris.length > 0 && source.components.includes("main"));
  const recognised = matching.filter(isOwnArchive);
  return recognised.length > 0 ? recognised : matching;
}

/** `sources` with `<codename>-backports` of the same mirror added, unless it is there already. */
export function withBackports(sources: readonly AptSource[], codename: string): AptSource[] {
  const suite = `${codename}-backports`;
  const base = sources.find((source) => source.suites.some((name) => name === codename || name === "oldstable"));
  if (!base || sources.some((source) => source.suites.includes(suite))) return [...sources];
  return [...sources, { ...base, suites: [suite], components: ["main"] }];
}

/** The sources as a deb822 file that fetches package indexes only, for one architecture. */
export function formatDeb822(sources: readonly AptSource[], architecture: string): string {
  return sources.map((source) =>
    [
      "Types: deb",
      `URIs: ${source.uris.join(" ")}`,
      `Suites: ${source.suites.join(" ")}`,
      `Components: ${source.components.join(" ")}`,
      `Architectures: ${architecture}`,
      "Targets: Packages",
      "Languages: none",
      ...source.signedBy ? [`Signed-By: ${source.signedBy}`] : [],
      ...source.trusted ? [`Trusted: ${source.trusted}`] : [],
    ].join("\n") + "\n"
  ).join("\n");
}
