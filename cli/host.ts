/** The command `host`: makes this machine part of a cluster that a controller elsewhere waits for. */
import { leftInPeace } from "../actors/host.ts";
import { codeDigest } from "../actors/code_digest.ts";
import { type HostOptions, joinAsHost, leaveOnSigterm } from "../actors/host_process.ts";
import type { Log } from "../actors/runtime/behavior.ts";
import { readTls } from "../actors/tls_files.ts";
import { givenSecret } from "../api/join.ts";
import { isLoopback, listeningTls } from "../wire/tls.ts";
import { logLine } from "../actors/runtime/log.ts";
import { ConfigError } from "../config.ts";
import { probeAdapters } from "../setup/adapters.ts";
import { ensureVulkan } from "../setup/vulkan.ts";
import type { CommandLine } from "./arguments.ts";

/** Why a controller ends a run in good order. */
const goodEnds = ["finished", "interrupted", leftInPeace];

const log: Log = (level, text) => console.log(logLine(level, text));

/** Runs `host --join URL --token-file FILE`; resolves to the exit code when the run has ended. */
export async function hostCommand({ options, overrides }: CommandLine): Promise<number> {
  const { join, advertise = "127.0.0.1" } = options;
  if (overrides.length > 0) {
    throw new ConfigError(
      overrides[0][0],
      `host has no option --${
        overrides[0][0]
      }; it takes --join URL, --token-file FILE, --advertise ADDRESS and --tls-certificate, --tls-key, --tls-authority FILE`,
    );
  }
  const token = givenSecret(options);
  if (join === undefined || token === undefined) {
    throw new ConfigError(
      "join",
      "host needs --join URL and --token-file FILE (or SEER_TOKEN), as the controller prints them",
    );
  }
  if (!/^wss?:\/\/[^/]/.test(join)) {
    throw new ConfigError("join", `option --join must be an address such as ws://10.0.0.5:7070/, found "${join}"`);
  }
  const tls = readTls(options.tls, "--tls-");
  listeningTls(advertise, tls);
  const gpuEnvironment = await ensureVulkan({ log: (line) => console.log(line) });
  const { adapters } = await probeAdapters(gpuEnvironment);
  const id = `host-${crypto.randomUUID().slice(0, 8)}`;
  console.log(`${id} joins ${join}`);
  const loopback = isLoopback(advertise);
  const hostOptions: HostOptions = {
    controllerUrl: join,
    token,
    tls,
    listen: advertise,
    gpuEnvironment,
    adapters: adapters.map(({ provider, name, kind }) => `${name} (${kind}) through ${provider}`),
    code: codeDigest(),
    grants: {
      addresses: loopback ? [advertise] : [],
      dataFolder: "",
      codeFolder: new URL("..", import.meta.url).pathname,
      dawn: adapters.some(({ kind, provider }) => kind === "gpu" && provider === "dawn"),
    },
    rejoinMs: options.rejoin > 0 ? 1000 * options.rejoin : undefined,
  };
  const end = await joinAsHost(id, hostOptions, log, leaveOnSigterm(log));
  console.log(`${id} ended: ${end.reason}`);
  return end.error === undefined && goodEnds.includes(end.reason) ? 0 : 1;
}
