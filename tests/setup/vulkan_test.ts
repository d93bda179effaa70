import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { PROBE_MARK, probeAdapters, readProbe } from "../../setup/adapters.ts";
import { firstComplaint, mayUnpack, packageOf, parseOsRelease } from "../../setup/apt.ts";
import { formatDeb822, ownSources, parseDeb822, parseOneLine, withBackports } from "../../setup/apt_sources.ts";
import { cacheFolderOf } from "../../setup/cache.ts";
import { runCommand } from "../../setup/command.ts";
import { remedyFor } from "../../setup/vulkan.ts";

const DEBIAN_SOURCES = `Types: deb deb-src
# a comment between the fields
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
URIs: http://packages.example/php
Suites: bookworm
Components: main
Signed-By: /usr/share/keyrings/php.gpg

Enabled: no
Types: deb
URIs: http://mirror.example/debian
Suites: bookworm-backports
Components: main
`;

Deno.test("ownSources() keeps the distribution's suites and leaves third parties out", () => {
  const third = parseOneLine("deb [arch=amd64 signed-by=/k.gpg] https://tools.example/linux bookworm stable # tools");
  assertEquals(third[0].signedBy, "/k.gpg");
  const own = ownSources([...parseDeb822(DEBIAN_SOURCES), ...third], "bookworm");
  assertEquals(own.map(({ uris }) => uris[0]), [
    "http://mirror.example/debian",
    "http://mirror.example/debian-security",
  ]);
});

Deno.test("ownSources() falls back to any mirror that carries the suite when no address is recognised", () => {
  const sources = parseOneLine("deb http://apt.corp.example/mirror bookworm main contrib\ndeb-src http://x y main");
  assertEquals(ownSources(sources, "bookworm"), sources);
  assertEquals(ownSources(sources, "trixie"), []);
});

Deno.test("withBackports() adds the backports of the same mirror under the same key, once", () => {
  const own = ownSources(parseDeb822(DEBIAN_SOURCES), "bookworm");
  const added = withBackports(own, "bookworm");
  assertEquals(added.length, 3);
  assertEquals(added[2].suites, ["bookworm-backports"]);
  assertEquals(added[2].uris, ["http://mirror.example/debian"]);
  assertEquals(added[2].signedBy, "/usr/share/keyrings/debian-archive-keyring.gpg");
  assertEquals(withBackports(added, "bookworm"), added);
});

Deno.test("formatDeb822() writes what parseDeb822() reads, for one architecture", () => {
  const own = ownSources(parseDeb822(DEBIAN_SOURCES), "bookworm");
  const text = formatDeb822(own, "arm64");
  assertEquals(parseDeb822(text), own);
  assertStringIncludes(text, "Architectures: arm64");
});

Deno.test("a key written out in a source survives parsing and formatting", () => {
  const text = "Types: deb\nURIs: http://m/debian\nSuites: trixie\nComponents: main\n" +
    "Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n";
  const [source] = parseDeb822(text);
  assertMatch(source.signedBy ?? "", /BEGIN PGP[^]*abc/);
  assertEquals(parseDeb822(formatDeb822([source], "amd64")), [source]);
});

Deno.test("the C library's packages are never unpacked beside the system's", () => {
  assert(!mayUnpack("/x/libc6_2.36-9+deb12u13_amd64.deb"));
  assert(!mayUnpack("/x/libgcc-s1_12.2.0-14_amd64.deb"));
  assert(mayUnpack("/x/libdrm2_2.4.123-1%7ebpo12+1_amd64.deb"));
  assertEquals(packageOf("/x/libz3-4_1%3a4.8.12-3.1_amd64.deb"), { name: "libz3-4", version: "1:4.8.12-3.1" });
});

Deno.test("an unreachable mirror is named with the reason", () => {
  const stdout = "Ign:1 http://m/debian bookworm InRelease\nErr:2 http://m/debian bookworm InRelease\n" +
    "  Temporary failure resolving 'm'\n";
  const result = { code: 0, stdout, stderr: "W: Some index files failed to download.", timedOut: false };
  assertEquals(firstComplaint(result), "http://m/debian bookworm InRelease: Temporary failure resolving 'm'");
  assertEquals(
    firstComplaint({ ...result, stdout: "", stderr: "E: Unable to locate package x\n" }),
    "E: Unable to locate package x",
  );
});

Deno.test("parseOsRelease() reads quoted and plain values", () => {
  const release = parseOsRelease('ID=debian\nVERSION_CODENAME="bookworm"\n# note\n');
  assertEquals([release.get("ID"), release.get("VERSION_CODENAME")], ["debian", "bookworm"]);
});

Deno.test("every kind of system gets one command", () => {
  assertStringIncludes(remedyFor("linux", "id=fedora"), "dnf install");
  assertStringIncludes(remedyFor("linux", "id=ubuntu id_like=debian"), "apt-get install");
  assertStringIncludes(remedyFor("linux", "id=arch"), "pacman");
  assertStringIncludes(remedyFor("windows", ""), "winget");
});

Deno.test("cacheFolderOf() follows SEER_CACHE, then XDG, then the system's custom", () => {
  const of = (os: string, variables: Record<string, string>) =>
    cacheFolderOf({ os, environment: (name) => variables[name] });
  assertEquals(of("linux", { SEER_CACHE: "/c", XDG_CACHE_HOME: "/x", HOME: "/h" }), "/c");
  assertEquals(of("linux", { XDG_CACHE_HOME: "/x", HOME: "/h" }), "/x/seer");
  assertEquals(of("linux", { HOME: "/h" }), "/h/.cache/seer");
  assertEquals(of("darwin", { HOME: "/h" }), "/h/Library/Caches/seer");
});

Deno.test("runCommand() ends a program at its deadline and survives a missing one", async () => {
  const late = await runCommand(Deno.execPath(), { args: ["eval", "setTimeout(() => {}, 60_000)"], timeoutMs: 300 });
  assert(late.timedOut && late.code !== 0);
  assertEquals((await runCommand("no-such-program-here", { args: [], timeoutMs: 1000 })).code, 127);
});

Deno.test("readProbe() finds its line among a driver's output, and says how a broken probe ended", () => {
  const good = readProbe({
    code: 134,
    stdout: `hello\n${PROBE_MARK}{"adapters":[],"refusals":[]}\n`,
    stderr: "",
    timedOut: false,
  });
  assertEquals(good, { adapters: [], refusals: [], complaint: "" });
  assertMatch(readProbe({ code: 139, stdout: "", stderr: "boom", timedOut: false }).complaint, /status 139: boom/);
});

Deno.test("probeAdapters() sees this environment's adapter in a child process", async () => {
  const { adapters, complaint } = await probeAdapters({});
  assert(adapters.length > 0, complaint);
});
