/** Reads the counts and failures from the JUnit file that `deno test --junit-path` writes. It runs nothing. */

/** What a test process's report says. */
export interface TestCounts {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Name and message of each failure. */
  readonly failures: readonly { readonly name: string; readonly message: string }[];
}

function unescape(text: string): string {
  const names: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
  return text.replace(/&(?:#(\d+)|#x([\da-f]+)|(\w+));/gi, (whole, decimal, hex, name) => {
    if (decimal) return String.fromCodePoint(Number(decimal));
    if (hex) return String.fromCodePoint(parseInt(hex, 16));
    return names[name] ?? whole;
  });
}

/** The counts of a report; steps count as tests of their own, as the runner counts them. */
export function readJunit(xml: string): TestCounts {
  const counts = { passed: 0, failed: 0, skipped: 0 };
  const failures: { name: string; message: string }[] = [];
  for (const [, attributes, body = ""] of xml.matchAll(/<testcase\b([^>]*?)(?:\/>|>([^]*?)<\/testcase>)/g)) {
    const failure = /<(?:failure|error)\b[^>]*?(?:\/>|>([^]*?)<\/(?:failure|error)>)/.exec(body);
    if (failure) {
      counts.failed++;
      const name = unescape(/\bname="([^"]*)"/.exec(attributes)?.[1] ?? "unnamed");
      failures.push({ name, message: unescape(failure[1] ?? "").trim() });
    } else if (/<skipped\b/.test(body)) {
      counts.skipped++;
    } else {
      counts.passed++;
    }
  }
  return { ...counts, failures };
}
