/**
 * Makes sure that child processes find a WebGPU adapter. A machine with a GPU is used as it is. A Debian or Ubuntu
 * machine without one gets Mesa's software Vulkan (lavapipe) from the distribution's own mirror, unpacked into the
 * user's cache folder, without root and without a change to the system. It knows processes, packages and variables, and
 * opens no device itself.
 */
import { probeAdapters, type ProbeResult } from "./adapters.ts";
import { type AptSystem, fetchPackages, findAptSystem, mayUnpack, packageOf, unpackPackages } from "./apt.ts";
import { cacheFolder } from "./cache.ts";
import { runCommand } from "./command.ts";

/** Variables for the child processes that use the GPU. */
export type Environment = Record<string, string>;

/** Options of {@linkcode ensureVulkan}. */
export interface VulkanOptions {
  /** Receives one line about each thing worth knowing. */
  log: (line: string) => void;
}

const PACKAGES = ["mesa-vulkan-drivers", "libvulkan1"];

/** Left in a folder that is complete. */
const MANIFEST = "seer.json";

/**
 * Finds a WebGPU adapter, fetching a software one where that is possible, and says what variables a child process needs
 * to see it. `SEER_SYSTEM_VULKAN=1` keeps the system's driver; so does a `VK_DRIVER_FILES` of the caller's.
 *
 * @returns variables to add to the environment of every process that opens a device; they take effect only when set
 * before that process starts
 * @throws {Error} when there is no adapter and none can be had; the message ends in the command that fixes it
 */
export async function ensureVulkan({ log }: VulkanOptions): Promise<Environment> {
  const base = await baseEnvironment();
  const own = await probeAdapters(base);
  if (own.adapters.some((adapter) => adapter.kind === "gpu")) return base;
  const kept = Deno.env.get("SEER_SYSTEM_VULKAN") === "1" ||
    Boolean(Deno.env.get("VK_DRIVER_FILES") ?? Deno.env.get("VK_ICD_FILENAMES"));
  if (own.adapters.length > 0 && kept) return base;
  const system = kept ? null : await findAptSystem();
  if (own.adapters.length > 0) {
    if (!system || !isSlow(system)) return base;
    log(`This system's software Vulkan is Mesa 22.3; a 2.5 to 5 times faster one is used from ${cacheFolder()}`);
    log("(SEER_SYSTEM_VULKAN=1 keeps the system's)");
  }
  if (!system) throw new Error(`${missing(own)}${remedy()}`);
  try {
    return await cachedEnvironment(system, { base, log });
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    if (own.adapters.length === 0) throw new Error(`${missing(own)}; ${reason}${remedy()}`);
    log(`Using the system's Mesa 22.3, since a faster one could not be had: ${reason}`);
    return base;
  }
}

/** Debian 12's own Mesa is 22.3, whose lavapipe computes 2.5 to 5 times slower than that of bookworm-backports. */
function isSlow(system: AptSystem): boolean {
  return system.codename === "bookworm";
}

function missing(probe: ProbeResult): string {
  return `Computing needs a WebGPU adapter, and this machine shows none${probe.complaint && ` (${probe.complaint})`}`;
}

/** The one command that gives this kind of system an adapter. */
export function remedyFor(os: string, distribution: string): string {
  if (os === "darwin") return "on macOS every Metal GPU is found: run outside a sandbox or virtual machine without GPU";
  if (os === "windows") return "install the GPU maker's driver, e.g. `winget install Nvidia.GeForceExperience`";
  if (/debian|ubuntu|mint|pop|raspbian/.test(distribution)) {
    return "install one with `sudo apt-get install mesa-vulkan-drivers libvulkan1`";
  }
  if (/fedora|rhel|centos|rocky|alma/.test(distribution)) {
    return "install one with `sudo dnf install mesa-vulkan-drivers vulkan-loader`";
  }
  if (/arch|manjaro/.test(distribution)) return "install one with `sudo pacman -S vulkan-swrast vulkan-icd-loader`";
  if (/suse/.test(distribution)) return "install one with `sudo zypper install libvulkan_lvp libvulkan1`";
  if (/alpine/.test(distribution)) return "install one with `apk add mesa-vulkan-swrast vulkan-loader`";
  return "install a Vulkan driver, e.g. Mesa's lavapipe, and the Vulkan loader";
}

function remedy(): string {
  let distribution = "";
  try {
    distribution = Deno.readTextFileSync("/etc/os-release").match(/^ID(?:_LIKE)?=.*$/gm)?.join(" ").toLowerCase() ?? "";
  } catch {
    // No os-release: the general advice is given.
  }
  return `; ${remedyFor(Deno.build.os, distribution)}`;
}

/**
 * Variables that hold whatever the driver. Drivers complain without a private runtime folder, and without naming the
 * backend wgpu also offers OpenGL adapters, which lack half the limits and which Dawn does not see.
 */
async function baseEnvironment(): Promise<Environment> {
  const env = chosenByUser();
  if (Deno.build.os !== "linux") return env;
  env.DENO_WEBGPU_BACKEND ??= "vulkan";
  if (!Deno.env.get("XDG_RUNTIME_DIR")) {
    env.XDG_RUNTIME_DIR = `${cacheFolder()}/run`;
    await Deno.mkdir(env.XDG_RUNTIME_DIR, { recursive: true, mode: 0o700 });
  }
  return env;
}

/** Variables by which people choose drivers and devices; actors' processes inherit nothing that is not handed on. */
const CHOICES = [
  ...["DENO_WEBGPU_BACKEND", "LD_LIBRARY_PATH", "XDG_RUNTIME_DIR", "VK_DRIVER_FILES", "VK_ICD_FILENAMES"],
  ...["VK_LOADER_DRIVERS_SELECT", "MESA_VK_DEVICE_SELECT", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"],
];

function chosenByUser(): Environment {
  return Object.fromEntries(CHOICES.flatMap((name) => {
    const value = Deno.env.get(name);
    return value === undefined ? [] : [[name, value]];
  }));
}

/** The cached driver's environment, fetched first if need be, proved by a probe in either case. */
async function cachedEnvironment(
  system: AptSystem,
  { base, log }: { base: Environment; log: (line: string) => void },
): Promise<Environment> {
  const shelf = `${cacheFolder()}/vulkan/${system.id}-${system.codename}-${system.architecture}`;
  const present = await newestComplete(shelf);
  if (present) {
    const env = { ...base, ...await environmentOf(present) };
    if ((await probeAdapters(env)).adapters.length > 0) return env;
    log(`The software Vulkan in ${present} does not start any more; it is fetched again`);
    await Deno.remove(present, { recursive: true });
  }
  log(
    `Fetching Mesa's software Vulkan (about 50 MB) from ${system.id}'s mirror into ${shelf}; the system is not changed`,
  );
  const folder = await fetchDriver(system, { shelf, log });
  const env = { ...base, ...await environmentOf(folder) };
  const probe = await probeAdapters(env);
  if (probe.adapters.length === 0) {
    throw new Error(`the fetched driver shows no adapter: ${await unresolved(folder, env) || probe.complaint}`);
  }
  log(`Software Vulkan is ready: ${probe.adapters[0].name}`);
  return env;
}

async function newestComplete(shelf: string): Promise<string | null> {
  const complete: { folder: string; time: number }[] = [];
  try {
    for await (const entry of Deno.readDir(shelf)) {
      if (!entry.isDirectory || entry.name.endsWith(".tmp")) continue;
      const folder = `${shelf}/${entry.name}`;
      const manifest = await Deno.stat(`${folder}/${MANIFEST}`).catch(() => null);
      if (manifest) complete.push({ folder, time: manifest.mtime?.getTime() ?? 0 });
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return complete.sort((a, b) => b.time - a.time)[0]?.folder ?? null;
}

/** Fetches and unpacks under a temporary name, renamed when complete, so that a broken start leaves nothing half done. */
async function fetchDriver(
  system: AptSystem,
  { shelf, log }: { shelf: string; log: (line: string) => void },
): Promise<string> {
  await Deno.mkdir(shelf, { recursive: true });
  const workFolder = await Deno.makeTempDir({ dir: shelf, suffix: ".tmp" });
  try {
    const files = await fetchNewest(system, { workFolder, log });
    const root = `${workFolder}/root`;
    await unpackPackages(files, root);
    const names = files.filter(mayUnpack).map(packageOf);
    const version = names.find(({ name }) => name === PACKAGES[0])?.version ?? "system";
    await Deno.writeTextFile(`${root}/${MANIFEST}`, JSON.stringify({ packages: names }, null, 2) + "\n");
    const folder = `${shelf}/${version.replace(/[^\w.+~-]/g, "_")}`;
    try {
      await Deno.rename(root, folder);
    } catch (error) {
      // Another process may have been first; its folder is as good.
      if (await newestComplete(shelf) !== folder) throw error;
    }
    return folder;
  } finally {
    await Deno.remove(workFolder, { recursive: true });
  }
}

/** The driver's packages, on Debian 12 from its backports where the mirror has them. */
async function fetchNewest(
  system: AptSystem,
  { workFolder, log }: { workFolder: string; log: (line: string) => void },
): Promise<string[]> {
  const plain = { packages: PACKAGES, workFolder, backports: false };
  if (!isSlow(system)) return await fetchPackages(system, plain);
  try {
    return await fetchPackages(system, { ...plain, backports: true });
  } catch (error) {
    const files = await fetchPackages(system, plain);
    const reason = error instanceof Error ? error.message : String(error);
    log(`Debian 12's own Mesa is used, which is 2.5 to 5 times slower than that of its backports: ${reason}`);
    return files;
  }
}

/** Folders below `folder` that hold shared libraries, in alphabetical order. */
async function libraryFolders(folder: string): Promise<string[]> {
  const found: string[] = [];
  for (const parent of [`${folder}/usr/lib`, `${folder}/lib`]) {
    const children = [parent];
    for (const entry of await entriesOf(parent)) {
      if (entry.isDirectory && entry.name.includes("linux")) children.push(`${parent}/${entry.name}`);
    }
    for (const child of children) {
      if ((await entriesOf(child)).some((entry) => entry.name.includes(".so"))) found.push(child);
    }
  }
  return found.sort();
}

async function entriesOf(folder: string): Promise<Deno.DirEntry[]> {
  try {
    return await Array.fromAsync(Deno.readDir(folder));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** Driver manifests of the system's other drivers, e.g. NVIDIA's in a container that lacks only the loader. */
async function systemManifests(): Promise<string[]> {
  const manifests: string[] = [];
  for (const folder of ["/etc/vulkan/icd.d", "/usr/share/vulkan/icd.d"]) {
    for (const { name } of await entriesOf(folder)) {
      if (name.endsWith(".json") && !name.startsWith("lvp_icd")) manifests.push(`${folder}/${name}`);
    }
  }
  return manifests.sort();
}

/** Variables under which a process finds the driver unpacked in `folder`, beside the system's other drivers. */
async function environmentOf(folder: string): Promise<Environment> {
  const libraries = await libraryFolders(folder);
  const driver = await firstPresent([...libraries, "/usr/lib"].map((library) => `${library}/libvulkan_lvp.so`));
  const manifest = `${folder}/lvp_icd.json`;
  if (driver) {
    const content = { file_format_version: "1.0.0", ICD: { library_path: driver, api_version: "1.3.0" } };
    await Deno.writeTextFile(manifest, JSON.stringify(content));
  }
  const manifests = [...await systemManifests(), ...driver ? [manifest] : []].join(":");
  const inherited = Deno.env.get("LD_LIBRARY_PATH");
  const shaders = `${cacheFolder()}/mesa-shaders`;
  await Deno.mkdir(shaders, { recursive: true });
  return {
    LD_LIBRARY_PATH: [...libraries, ...inherited ? [inherited] : []].join(":"),
    VK_DRIVER_FILES: manifests,
    // The name that loaders before 1.3.207 know (Ubuntu 22.04).
    VK_ICD_FILENAMES: manifests,
    MESA_SHADER_CACHE_DIR: Deno.env.get("MESA_SHADER_CACHE_DIR") ?? shaders,
  };
}

async function firstPresent(paths: readonly string[]): Promise<string | null> {
  for (const path of paths) {
    if (await Deno.stat(path).then(() => true, () => false)) return path;
  }
  return null;
}

/** Names of libraries that the fetched driver needs and the system lacks, as `ldd` sees it; empty when all resolve. */
async function unresolved(folder: string, env: Environment): Promise<string> {
  const lines: string[] = [];
  for (const library of await libraryFolders(folder)) {
    for (const name of ["libvulkan_lvp.so", "libvulkan.so.1"]) {
      const result = await runCommand("ldd", { args: [`${library}/${name}`], timeoutMs: 20_000, env });
      lines.push(...result.stdout.split("\n").filter((line) => line.includes("not found")).map((line) => line.trim()));
    }
  }
  return [...new Set(lines)].join(", ");
}
