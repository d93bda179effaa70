/**
 * Limits of the system for some processes, by Linux's control groups, version 1 or 2. Where these are not to be had (no
 * root, no such controller) the reason is told.
 */
const root = "/sys/fs/cgroup";

/** What a group can limit, with the files of both versions. */
const limits = {
  memory: { v1: "memory.limit_in_bytes", v2: "memory.max" },
  pids: { v1: "pids.max", v2: "pids.max" },
} as const;

/** A group of processes with one limit. */
export class ControlGroup {
  private constructor(private readonly path: string, private readonly file: string) {}

  /** A new one; why not, where there is none to be had. */
  static async make(kind: keyof typeof limits): Promise<ControlGroup | string> {
    const name = `seer-test-${crypto.randomUUID()}`, { v1, v2 } = limits[kind];
    const reasons: string[] = [];
    for (const [path, file] of [[`${root}/${kind}/${name}`, v1], [`${root}/${name}`, v2]]) {
      const reason = await failureOf(`mkdir ${path} && test -w ${path}/${file}`);
      if (reason === undefined) return new ControlGroup(path, file);
      reasons.push(reason);
      await failureOf(`test ! -d ${path} || rmdir ${path}`);
    }
    return reasons.join("; ");
  }

  /** Takes a process in. What it has allocated already may or may not count. */
  async take(pid: number): Promise<void> {
    await this.#write("cgroup.procs", pid);
  }

  /** Sets the limit; a process above it is ended at once or when it next allocates. */
  async limit(value: number): Promise<void> {
    await this.#write(this.file, value);
  }

  /** Processes, or their threads, that it holds now. */
  async count(): Promise<number> {
    return Number(await Deno.readTextFile(`${this.path}/pids.current`));
  }

  /** Takes the group away once its processes have ended. */
  async remove(): Promise<void> {
    for (let turn = 0; turn < 100; turn++) {
      if (await failureOf(`rmdir ${this.path}`) === undefined) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async #write(file: string, value: number): Promise<void> {
    const failure = await failureOf(`echo ${value} > ${this.path}/${file}`);
    if (failure !== undefined) throw new Error(`${this.path}/${file}: ${failure}`);
  }
}

/** What a command of the shell says when it fails; Deno itself may not write there. */
async function failureOf(command: string): Promise<string | undefined> {
  const { success, code, stderr } = await new Deno.Command("sh", { args: ["-c", command] }).output();
  return success ? undefined : new TextDecoder().decode(stderr).trim() || `exit code ${code}`;
}
