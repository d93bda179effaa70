/**
 * Limits of the system for some processes, by Linux's control groups, version 1 or 2. Where these are not to be had (no
 * root, no such controller) the reason is told.
 */
const root = "/sys/fs/cgroup";

/** What a group can limit, with the files of both versions; without swap, or a process would only become slow. */
const kinds = {
  memory: [
    { file: "memory.limit_in_bytes", swap: "memory.memsw.limit_in_bytes" },
    { file: "memory.max", swap: "memory.swap.max" },
  ],
  pids: [{ file: "pids.max" }, { file: "pids.max" }],
} as const satisfies Record<string, readonly { file: string; swap?: string }[]>;

/** A group of processes with one limit. */
export class ControlGroup {
  private constructor(private readonly path: string, private readonly files: { file: string; swap?: string }) {}

  /** A new one; why not, where there is none to be had. */
  static async make(kind: keyof typeof kinds): Promise<ControlGroup | string> {
    const name = `seer-test-${crypto.randomUUID()}`, [v1, v2] = kinds[kind];
    const reasons: string[] = [];
    for (const [path, files] of [[`${root}/${kind}/${name}`, v1], [`${root}/${name}`, v2]] as const) {
      const { error } = await shell(`mkdir ${path} && test -w ${path}/${files.file}`);
      if (error === undefined) return new ControlGroup(path, files);
      reasons.push(error);
      await shell(`test ! -d ${path} || rmdir ${path}`);
    }
    return reasons.join("; ");
  }

  /** Takes a process in. What it has allocated already may or may not count. */
  async take(pid: number | undefined): Promise<void> {
    if (pid === undefined) throw new Error("there is no such process");
    await this.#write("cgroup.procs", pid);
  }

  /** Sets the limit; a process above it is ended at once or when it next allocates. */
  async limit(value: number): Promise<void> {
    const { file, swap } = this.files;
    await this.#write(file, value);
    // Absent where the kernel does not count swap.
    if (swap !== undefined) await this.#write(swap, swap.includes("memsw") ? value : 0).catch(() => {});
  }

  /** Threads of the processes that it holds now. */
  async threads(): Promise<number> {
    const { output, error } = await shell(`cat ${this.path}/pids.current`);
    if (error !== undefined) throw new Error(error);
    return Number(output);
  }

  /** Takes the group away once its processes have ended. */
  async remove(): Promise<void> {
    for (let turn = 0; turn < 200; turn++) {
      if ((await shell(`rmdir ${this.path}`)).error === undefined) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`${this.path} still holds processes after 10 s`);
  }

  async #write(file: string, value: number): Promise<void> {
    const { error } = await shell(`echo ${value} > ${this.path}/${file}`);
    if (error !== undefined) throw new Error(`${this.path}/${file}: ${error}`);
  }
}

/** Runs a command by the shell: Deno itself may neither read nor write there, unless it may do anything. */
async function shell(command: string): Promise<{ output: string; error?: string }> {
  const { success, code, stdout, stderr } = await new Deno.Command("sh", { args: ["-c", command] }).output();
  const decoder = new TextDecoder(), output = decoder.decode(stdout).trim();
  return success ? { output } : { output, error: decoder.decode(stderr).trim() || `exit code ${code}` };
}
