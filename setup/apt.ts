/**
 * Fetches Debian packages, with the dependencies that the system lacks, and unpacks them into a folder of the user's:
 * no root, nothing installed, nothing written outside that folder. It knows apt and dpkg-deb, and not what the packages
 * are for.
 */
import { type AptSource, formatDeb822, ownSources, parseDeb822, parseOneLine, withBackports } from "./apt_sources.ts";
import { type CommandResult, runCommand } from "./command.ts";

/** A Debian-like system, as far as fetching packages goes. */
export interface AptSystem {
  /** `debian`, `ubuntu`, …: `ID` of os-release. */
  readonly id: string;
  /** `bookworm`, `noble`, …: `VERSION_CODENAME` of os-release. */
  readonly codename: string;
  /** dpkg's name for the architecture: `amd64`, `arm64`. */
  readonly architecture: string;
}

/** What {@linkcode fetchPackages} fetches, and where it works. */
export interface FetchOptions {
  readonly packages: readonly string[];
  /** Whether the packages may come from `<codename>-backports` of the same mirror. */
  readonly backports: boolean;
  /** Empty working folder; apt's indexes and the fetched packages go here and can be deleted afterwards. */
  readonly workFolder: string;
}

/** Fields of an os-release file. */
export function parseOsRelease(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split("\n")) {
    const match = /^([A-Z_]+)=(?:"(.*)"|'(.*)'|(.*))$/.exec(line.trim());
    if (match) fields.set(match[1], match[2] ?? match[3] ?? match[4] ?? "");
  }
  return fields;
}

/** The apt system this is, or `null` where there is none (another distribution, macOS, Windows). */
export async function findAptSystem(): Promise<AptSystem | null> {
  if (Deno.build.os !== "linux") return null;
  const release = parseOsRelease(await readTextIfPresent("/etc/os-release"));
  const codename = release.get("VERSION_CODENAME");
  if (!codename) return null;
  const [apt, dpkg, unpack] = await Promise.all([
    runCommand("apt-get", { args: ["--version"], timeoutMs: 10_000 }),
    runCommand("dpkg", { args: ["--print-architecture"], timeoutMs: 10_000 }),
    runCommand("dpkg-deb", { args: ["--version"], timeoutMs: 10_000 }),
  ]);
  if (apt.code !== 0 || dpkg.code !== 0 || unpack.code !== 0) return null;
  return { id: release.get("ID") ?? "debian", codename, architecture: dpkg.stdout.trim() };
}

async function readTextIfPresent(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied) return "";
    throw error;
  }
}

/** Every source that apt would read on this system. */
async function readSystemSources(): Promise<AptSource[]> {
  const sources = parseOneLine(await readTextIfPresent("/etc/apt/sources.list"));
  const folder = "/etc/apt/sources.list.d";
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir(folder)) names.push(entry.name);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  for (const name of names.sort()) {
    const text = await readTextIfPresent(`${folder}/${name}`);
    if (name.endsWith(".list")) sources.push(...parseOneLine(text));
    if (name.endsWith(".sources")) sources.push(...parseDeb822(text));
  }
  return sources;
}

/** apt settings for a private index: the machine's own settings (proxies) stay, its hooks and pins do not. */
function aptSettings(workFolder: string): string {
  const settings: Record<string, string> = {
    "Dir::Etc::SourceList": `${workFolder}/archives.sources`,
    "Dir::Etc::SourceParts": "/dev/null",
    "Dir::Etc::Preferences": "/dev/null",
    "Dir::Etc::PreferencesParts": "/dev/null",
    "Dir::State::Lists": `${workFolder}/lists`,
    "Dir::Cache": `${workFolder}/cache`,
    "Dir::Cache::archives": "archives",
    "Dir::Log": workFolder,
    "APT::Sandbox::User": "",
    "APT::Default-Release": "",
    "APT::Install-Recommends": "false",
    "APT::Install-Suggests": "false",
    "APT::Get::Assume-Yes": "true",
    "Debug::NoLocking": "true",
    "Acquire::Retries": "2",
    "Acquire::http::Timeout": "20",
    "Acquire::https::Timeout": "20",
  };
  const clears = ["APT::Update::Pre-Invoke", "APT::Update::Post-Invoke", "APT::Update::Post-Invoke-Success"];
  return [
    ...clears.map((name) => `#clear ${name};`),
    ...Object.entries(settings).map(([name, value]) => `${name} "${value}";`),
  ].join("\n") + "\n";
}

/** The line of apt's output that says most: an error with its reason, else the first words it said. */
export function firstComplaint(result: CommandResult): string {
  if (result.timedOut) return "no answer before the deadline";
  const lines = `${result.stdout}\n${result.stderr}`.split("\n").map((line) => line.trimEnd());
  const unreachable = lines.findIndex((line) => /^Err:\d+ /.test(line));
  if (unreachable >= 0) {
    const reason = lines[unreachable + 1]?.startsWith(" ") ? `: ${lines[unreachable + 1].trim()}` : "";
    return lines[unreachable].replace(/^Err:\d+ /, "") + reason;
  }
  return (lines.find((line) => line.startsWith("E: ")) ?? lines.find(Boolean) ?? "no message").trim();
}

/**
 * Downloads the packages and what they depend on beyond what is installed.
 *
 * @returns paths of the fetched `.deb` files
 * @throws {Error} when the system has no readable source, or apt fails or passes its deadline (offline)
 */
export async function fetchPackages(system: AptSystem, options: FetchOptions): Promise<string[]> {
  const { workFolder } = options;
  let sources = ownSources(await readSystemSources(), system.codename);
  if (sources.length === 0) {
    throw new Error(
      `Fetching packages needs ${system.id}'s own sources for ${system.codename}, and /etc/apt names none`,
    );
  }
  if (options.backports) sources = withBackports(sources, system.codename);
  for (const folder of ["lists/partial", "cache/archives/partial"]) {
    await Deno.mkdir(`${workFolder}/${folder}`, { recursive: true });
  }
  await Deno.writeTextFile(`${workFolder}/archives.sources`, formatDeb822(sources, system.architecture));
  await Deno.writeTextFile(`${workFolder}/apt.conf`, aptSettings(workFolder));
  const env = { LC_ALL: "C", DEBIAN_FRONTEND: "noninteractive" };
  const common = ["-c", `${workFolder}/apt.conf`, "-q"];
  const update = await runCommand("apt-get", { args: [...common, "update"], timeoutMs: 180_000, env });
  // apt-get update exits with 0 and only warns when a mirror cannot be reached.
  if (update.code !== 0 || /^W: (?:Failed to fetch|Some index files failed)/m.test(update.stderr)) {
    throw new Error(`apt-get update failed: ${firstComplaint(update)}`);
  }
  const release = options.backports ? ["-t", `${system.codename}-backports`] : [];
  const install = await runCommand("apt-get", {
    args: [...common, ...release, "install", "--download-only", "--no-remove", ...options.packages],
    timeoutMs: 300_000,
    env,
  });
  if (install.code !== 0) throw new Error(`apt-get install --download-only failed: ${firstComplaint(install)}`);
  const archives = `${workFolder}/cache/archives`;
  const files: string[] = [];
  for await (const entry of Deno.readDir(archives)) {
    if (entry.isFile && entry.name.endsWith(".deb")) files.push(`${archives}/${entry.name}`);
  }
  return files.sort();
}

/**
 * Packages that must come from the running system: the C library and its loader break every program when another copy
 * is found through LD_LIBRARY_PATH, and the rest is of no use outside the system's own folders.
 */
const SYSTEM_ONLY =
  /^(?:libc6|libc-bin|libc-l10n|libgcc-s1|gcc-\d+-base|libcrypt1|debconf|dpkg|perl.*|tar|sed|coreutils)$/;

/** The package's name from the file name that apt gives it: `name_version_architecture.deb`. */
export function packageOf(file: string): { name: string; version: string } {
  const base = file.slice(file.lastIndexOf("/") + 1).replace(/\.deb$/, "");
  const [name, version = ""] = base.split("_");
  return { name, version: decodeURIComponent(version) };
}

/** Whether a fetched package may be unpacked beside the system's own libraries. */
export function mayUnpack(file: string): boolean {
  return !SYSTEM_ONLY.test(packageOf(file).name);
}

/**
 * Unpacks `.deb` files into `folder`, the C library's packages left out.
 *
 * @throws {Error} when dpkg-deb fails (disk full, broken file)
 */
export async function unpackPackages(files: readonly string[], folder: string): Promise<void> {
  await Deno.mkdir(folder, { recursive: true });
  for (const file of files.filter(mayUnpack)) {
    const result = await runCommand("dpkg-deb", { args: ["-x", file, folder], timeoutMs: 120_000 });
    if (result.code !== 0) throw new Error(`Unpacking ${file} into ${folder} failed: ${firstComplaint(result)}`);
  }
}
