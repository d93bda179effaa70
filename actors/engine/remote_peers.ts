/**
 * The other replicas as the maths sees them, over messages: sums within a group of replicas and the world-wide
 * assignment. Replicas of the same trainer are added here along complete nodes of the fixed tree; only those partial sums
 * leave. It knows no socket and no tensor.
 */
import { deadline } from "@std/async/deadline";
import type { Assigner, AssignRequest, Collective } from "../../collectives/collective.ts";
import { treeCover, treeSum } from "../../collectives/tree.ts";
import type { Message } from "../../wire/messages.ts";
import { f32FromWire, toWire } from "../../wire/tensor.ts";

/** A range of replicas, `[low, high)`. */
export interface ReplicaRange {
  readonly low: number;
  readonly high: number;
}

/** What {@linkcode RemotePeers} needs. */
export interface RemotePeersOptions {
  /** Replicas carried here. */
  readonly local: ReplicaRange;
  readonly send: (message: Message) => void;
  /** Longest wait for the others. */
  readonly timeoutMs: number;
}

type Vector = Float32Array<ArrayBuffer>;

interface PendingSum {
  readonly parts: Map<number, Vector>;
  readonly result: PromiseWithResolvers<Vector>;
}

/** Sums and assignments that reach over trainers. */
export class RemotePeers implements Assigner {
  #options: RemotePeersOptions;
  #sums = new Map<string, PendingSum>();
  #codes = new Map<string, PromiseWithResolvers<Vector>>();

  constructor(options: RemotePeersOptions) {
    this.#options = options;
  }

  /** The group `group` as `replica` sees it. Sums of several groups under one key do not mix. */
  collective(replica: number, group: ReplicaRange): Collective {
    return {
      size: group.high - group.low,
      allReduce: (key, values) => this.#allReduce(`${key}@${group.low}`, values, { replica, group }),
    };
  }

  /** @inheritdoc */
  assign(request: AssignRequest): Promise<Vector> {
    const key = `${request.step}/${request.replica}`;
    const result = Promise.withResolvers<Vector>();
    this.#codes.set(key, result);
    const { step, replica, batch, rows } = request;
    this.#options.send({ type: "scores", step, replica, batch, rows, values: toWire(request.scores) });
    return this.#within(result.promise, `codes of step ${step} from the Sinkhorn coordinator`);
  }

  /** Takes a message from the others; false when it is none of this object's. */
  receive(message: Message): boolean {
    if (message.type === "reduced") {
      this.#sums.get(message.key)?.result.resolve(f32FromWire(message.values));
      this.#sums.delete(message.key);
      return true;
    }
    if (message.type === "codes") {
      const key = `${message.step}/${message.replica}`;
      this.#codes.get(key)?.resolve(f32FromWire(message.values));
      this.#codes.delete(key);
      return true;
    }
    return false;
  }

  async #allReduce(key: string, values: Vector, member: { replica: number; group: ReplicaRange }): Promise<Vector> {
    const { replica, group } = member;
    const low = Math.max(group.low, this.#options.local.low);
    const high = Math.min(group.high, this.#options.local.high);
    const pending = this.#sums.get(key) ?? { parts: new Map(), result: Promise.withResolvers<Vector>() };
    this.#sums.set(key, pending);
    if (pending.parts.has(replica)) throw new RangeError(`Replica ${replica} contributes twice to ${key}`);
    pending.parts.set(replica, values);
    if (pending.parts.size === high - low) this.#contribute(key, pending, { group, low, high });
    return await this.#within(pending.result.promise, `the sum ${key} from the parameter sync`);
  }

  #contribute(key: string, pending: PendingSum, range: { group: ReplicaRange; low: number; high: number }): void {
    const { group, low, high } = range;
    const slots = group.high - group.low;
    for (const node of treeCover(slots, low - group.low, high - group.low)) {
      const vectors = Array.from({ length: node.high - node.low }, (_, offset) => {
        const part = pending.parts.get(group.low + node.low + offset);
        if (part === undefined) throw new RangeError(`Sum ${key} lacks replica ${group.low + node.low + offset}`);
        return part;
      });
      const values = treeSum(vectors);
      if (node.high - node.low === slots) {
        // The whole group lives here: nothing leaves.
        pending.result.resolve(values);
        this.#sums.delete(key);
        return;
      }
      this.#options.send({ type: "contribute", key, slots, low: node.low, high: node.high, values: toWire(values) });
    }
    pending.parts.clear();
  }

  async #within(promise: Promise<Vector>, what: string): Promise<Vector> {
    try {
      return await deadline(promise, this.#options.timeoutMs);
    } catch (error) {
      if (!(error instanceof DOMException)) throw error;
      throw new Error(
        `Waiting for ${what} took longer than ${this.#options.timeoutMs} ms; raise cluster.stepTimeoutMs if the step is that slow`,
      );
    }
  }
}
