/**
 * Machines of a small network, as network namespaces of this one: each has an address and a cable to every other, and the
 * ways between two of them can be cut, each direction by itself, without anybody being told. This process is the first
 * machine; it must have a network and a `/run/netns` of its own (see {@linkcode ownNetwork}).
 */

import { type Flaws, LossyCable, type Traffic } from "./lossy_cable.ts";

/** Runs a command as a process that has a network of its own; undefined, with the reason, where that is not to be had. */
export async function ownNetwork(command: readonly string[]): Promise<{ args: string[] } | { reason: string }> {
  const set = "mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up";
  const reasons: string[] = [];
  for (const unshare of [["--net", "--mount"], ["--user", "--map-root-user", "--net", "--mount"]]) {
    const wrap = (
      script: string,
      ...args: readonly string[]
    ) => [...unshare, "sh", "-c", `${set} && ${script}`, "sh", ...args];
    const trial = await said("unshare", wrap("ip netns add trial && ip link add left type veth peer name right"));
    if (trial === undefined) return { args: ["unshare", ...wrap('exec "$@"', ...command)] };
    reasons.push(`unshare ${unshare.join(" ")}: ${trial}`);
  }
  return { reason: reasons.join("; ") };
}

/** Why cables with flaws cannot be laid there; undefined where they can. */
export async function whyNoFlaws(): Promise<string | undefined> {
  const own = await ownNetwork(["ip", "tuntap", "add", "dev", "trial", "mode", "tun"]);
  return "reason" in own ? own.reason : await said(own.args[0], own.args.slice(1));
}

/** What a command says when it fails; undefined when it does not. */
async function said(name: string, args: readonly string[]): Promise<string | undefined> {
  try {
    const { code, stderr } = await new Deno.Command(name, { args: [...args], stdout: "null", stderr: "piped" })
      .output();
    return code === 0 ? undefined : new TextDecoder().decode(stderr).trim().split("\n")[0] || `exit code ${code}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

async function ip(...args: readonly string[]): Promise<void> {
  const failure = await said("ip", args);
  if (failure !== undefined) throw new Error(`ip ${args.join(" ")}: ${failure}`);
}

/** A machine that no cable leads to answers to this. */
const nowhere = "02:00:00:00:00:01";

/** Machines 1 (this process), 2, …. */
export class Machines {
  readonly #lossy: LossyCable[] = [];

  private constructor(readonly count: number) {}

  /** Makes them, each with a cable to every other, which may have flaws instead of being cut later. */
  static async make(count: number, { flaws }: { flaws?: Flaws } = {}): Promise<Machines> {
    const machines = new Machines(count);
    for (let machine = 2; machine <= count; machine++) await ip("netns", "add", `m${machine}`);
    for (let machine = 1; machine <= count; machine++) {
      await ip(...machines.#on(machine), "link", "set", "lo", "up");
      await ip(...machines.#on(machine), "addr", "add", `${machines.address(machine)}/32`, "dev", "lo");
    }
    for (let a = 1; a <= count; a++) {
      for (let b = a + 1; b <= count; b++) {
        if (flaws === undefined) await machines.#join(a, b);
        else await machines.#joinBadly(a, b, flaws);
        for (const [from, to] of [[a, b], [b, a]]) {
          const on = machines.#on(from), route = [`${machines.address(to)}/32`, "dev", `to${to}`];
          await ip(...on, "link", "set", `to${to}`, "up");
          await ip(...on, "route", "add", ...route, "src", machines.address(from));
        }
      }
    }
    return machines;
  }

  /** Takes the cables with flaws away; what they have carried. */
  async end(): Promise<Traffic> {
    const all = await Promise.all(this.#lossy.map((cable) => cable.end()));
    const sum = (fate: keyof Traffic) => all.reduce((total, traffic) => total + traffic[fate], 0);
    return { carried: sum("carried"), lost: sum("lost") };
  }

  /** The one address of a machine. */
  address(machine: number): string {
    return `10.77.0.${machine}`;
  }

  /** What to put in front of a command for it to run there. */
  prefix(machine: number): string[] {
    return machine === 1 ? [] : ["ip", "netns", "exec", `m${machine}`];
  }

  /** What `from` sends to `to` is lost from here on. */
  async cut(from: number, to: number): Promise<void> {
    await ip(...this.#on(from), "neigh", "replace", ...this.#way(to), "lladdr", nowhere, "nud", "permanent");
  }

  /** It arrives again. */
  async heal(from: number, to: number): Promise<void> {
    await ip(...this.#on(from), "neigh", "del", ...this.#way(to));
  }

  async #join(a: number, b: number): Promise<void> {
    const end = (on: number, to: number) => ["name", `to${to}`, "netns", this.#name(on)];
    await ip("link", "add", ...end(a, b), "type", "veth", "peer", ...end(b, a));
  }

  async #joinBadly(a: number, b: number, flaws: Flaws): Promise<void> {
    const ends = [[a, b], [b, a]] as const;
    const [left, right] = ends.map(([on, to]) => `cable${on}to${to}`);
    this.#lossy.push(await LossyCable.lay([left, right], flaws));
    for (const [on, to] of ends) {
      await ip("link", "set", "dev", `cable${on}to${to}`, "netns", this.#name(on), "name", `to${to}`);
    }
  }

  #way(to: number): string[] {
    return [this.address(to), "dev", `to${to}`];
  }

  #on(machine: number): string[] {
    return machine === 1 ? [] : ["-n", `m${machine}`];
  }

  /** How `ip link` names the namespace of a machine: by name, or by a process in it. */
  #name(machine: number): string {
    return machine === 1 ? `${Deno.pid}` : `m${machine}`;
  }
}

/**
 * Files of an authority, and of a certificate and key for these addresses, in `folder`.
 *
 * @throws {Error} when openssl fails.
 */
export async function makeCertificates(
  folder: string,
  addresses: readonly string[],
): Promise<{ certificate: string; key: string; authority: string }> {
  const file = (name: string) => `${folder}/${name}.pem`;
  const openssl = async (...args: readonly string[]) => {
    const failure = await said("openssl", args);
    if (failure !== undefined) throw new Error(`openssl ${args[0]}: ${failure}`);
  };
  const elliptic = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const authority = [...elliptic, "-x509", "-days", "2", "-subj", "/CN=small network"];
  await openssl("req", ...authority, "-keyout", file("authority_key"), "-out", file("authority"));
  await openssl("req", ...elliptic, "-subj", "/CN=machine", "-keyout", file("key"), "-out", file("request"));
  const names = addresses.map((address) => `IP:${address}`).join(",");
  await Deno.writeTextFile(`${folder}/names.cnf`, `subjectAltName=${names}\nbasicConstraints=CA:FALSE\n`);
  const signed = ["-req", "-in", file("request"), "-CA", file("authority"), "-CAkey", file("authority_key")];
  const made = ["-CAcreateserial", "-days", "2", "-extfile", `${folder}/names.cnf`, "-out", file("certificate")];
  await openssl("x509", ...signed, ...made);
  return { certificate: file("certificate"), key: file("key"), authority: file("authority") };
}
