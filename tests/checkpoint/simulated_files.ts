/**
 * A disk in memory that forgets: bytes of a file count only once synced, names in a folder only once that folder is
 * synced. It stops or fails at a chosen operation, and then shows what a machine would find after a power cut. It knows
 * no checkpoint.
 */
import { createHash } from "node:crypto";
import type { Files } from "../../checkpoint/files.ts";

interface FileNode {
  bytes: Uint8Array<ArrayBuffer>;
  synced: boolean;
}

interface FolderNode {
  names: Map<string, Node>;
  durable: Map<string, Node>;
  /** Changes of names since the last sync, oldest first. */
  pending: ((names: Map<string, Node>) => void)[];
}

type Node = FileNode | FolderNode;

const emptyFolder = (): FolderNode => ({ names: new Map(), durable: new Map(), pending: [] });

/** {@linkcode Files} in memory; paths have one root, which always exists. */
export class SimulatedFiles implements Files {
  /** Operations since the last {@linkcode plan}. */
  operations = 0;
  #root = emptyFolder();
  #at = Infinity;
  #fault: "crash" | string = "crash";

  /** Lets the `at`-th operation from now (1 is the next) and all later ones crash, or it alone fail with a code. */
  plan(at: number, fault: "crash" | "ENOSPC" | "EIO" = "crash"): void {
    this.operations = 0;
    this.#at = at;
    this.#fault = fault;
  }

  /** What is there after a power cut in which this share (0 to 1) of what was not synced survived; faults are over. */
  reopen(share: number): void {
    this.#root = survivor(this.#root, share) as FolderNode;
    this.plan(Infinity);
  }

  /** The bytes of a file, to be damaged in place. */
  file(path: string): FileNode {
    const node = this.#find(path);
    if (!("bytes" in node)) throw new Error(`${path} is a folder`);
    return node;
  }

  makeFolder(path: string): Promise<void> {
    return this.#try(() => {
      let folder = this.#root;
      for (const name of path.split("/")) {
        if (!folder.names.has(name)) this.#change(folder, (names, node = emptyFolder()) => names.set(name, node));
        folder = folder.names.get(name) as FolderNode;
      }
    });
  }

  writeFile(path: string, pieces: Iterable<Uint8Array<ArrayBuffer>>) {
    return this.#try(() => {
      const [folder, name] = this.#parent(path);
      const node: FileNode = { bytes: new Uint8Array(), synced: false };
      this.#change(folder, (names) => names.set(name, node));
      for (const piece of pieces) {
        this.#count();
        node.bytes = new Uint8Array([...node.bytes, ...piece]);
      }
      this.#count();
      node.synced = true;
      return { sha256: createHash("sha256").update(node.bytes).digest("hex"), byteLength: node.bytes.byteLength };
    });
  }

  rename(from: string, to: string): Promise<void> {
    return this.#try(() => {
      const [folder, name] = this.#parent(from);
      const [other, target] = this.#parent(to);
      const node = this.#find(from);
      if (folder !== other) throw new Error("the simulated disk renames inside one folder only");
      this.#change(folder, (names) => names.delete(name) && names.set(target, node));
    });
  }

  syncFolder(path: string): Promise<void> {
    return this.#try(() => {
      this.#count();
      const folder = this.#find(path) as FolderNode;
      folder.durable = new Map(folder.names);
      folder.pending = [];
    });
  }

  remove(path: string): Promise<void> {
    return this.#try(() => {
      const [folder, name] = this.#parent(path);
      const node = folder.names.get(name);
      if (node === undefined) return;
      if ("names" in node) {
        for (const child of [...node.names.keys()]) this.#change(node, (names) => names.delete(child));
      }
      this.#change(folder, (names) => names.delete(name));
    });
  }

  readFile(path: string): Promise<Uint8Array<ArrayBuffer>> {
    return this.#try(() => this.file(path).bytes.slice());
  }

  list(path: string): Promise<string[]> {
    return this.#try(() => {
      try {
        return [...(this.#find(path) as FolderNode).names.keys()].sort();
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return [];
        throw error;
      }
    });
  }

  #try<T>(action: () => T): Promise<T> {
    return new Promise((resolve) => resolve(action()));
  }

  #count(): void {
    const { operations } = { operations: ++this.operations };
    if (this.#fault === "crash" && operations >= this.#at) throw new Error("crashed");
    if (operations !== this.#at) return;
    const text = this.#fault === "ENOSPC" ? "No space left on device (os error 28)" : "Input/output error (os error 5)";
    throw Object.assign(new Error(text), { code: this.#fault });
  }

  #change(folder: FolderNode, change: (names: Map<string, Node>, node?: Node) => void): void {
    this.#count();
    const made = emptyFolder();
    const apply = (names: Map<string, Node>) => change(names, made);
    apply(folder.names);
    folder.pending.push(apply);
  }

  #find(path: string): Node {
    let node: Node | undefined = this.#root;
    for (const name of path.split("/")) node = node !== undefined && "names" in node ? node.names.get(name) : undefined;
    if (node === undefined) throw new Deno.errors.NotFound(path);
    return node;
  }

  #parent(path: string): [FolderNode, string] {
    const cut = path.lastIndexOf("/");
    return [this.#find(path.slice(0, cut)) as FolderNode, path.slice(cut + 1)];
  }
}

function survivor(node: Node, share: number): Node {
  if ("bytes" in node) {
    const bytes = node.synced ? node.bytes : node.bytes.slice(0, Math.floor(node.bytes.byteLength * share));
    return { bytes, synced: true };
  }
  const names = new Map(node.durable);
  for (const change of node.pending.slice(0, Math.floor(node.pending.length * share))) change(names);
  const survivors = new Map([...names].map(([name, child]) => [name, survivor(child, share)]));
  return { names: survivors, durable: new Map(survivors), pending: [] };
}
