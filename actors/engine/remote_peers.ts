/**
 * The other replicas as the maths sees them, over messages: sums within a group of replicas and the world-wide
 * assignment, in one membership epoch. Replicas of the same trainer are added here along complete nodes of the fixed
 * tree; only those partial sums leave. It knows no socket and no tensor.
 */
import { deadline } from "@std/async/deadline";
import type { Assigner, AssignRequest, Collective } from "../../collectives/collective.ts";
import { joined } from "../../collectives/join.ts";
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
  /** Membership epoch: what carries another one is not for this object. */
  readonly epoch: number;
  readonly send: (message: Message) => void;
  /** Longest wait for the others. */
  readonly timeoutMs: number;
}

/** A trainer without replicas that follows, and the number of its start. */
export interface Observer {
  readonly id: string;
  readonly attempt: number;
}

/** Why a wait ended before its time: who takes part has changed, and the step is void. */
export class EpochOver extends Error {
  override readonly name = "EpochOver";
}

type Vector = Float32Array<ArrayBuffer>;

interface PendingSum {
  readonly parts: Map<number, Vector>;
  readonly result: PromiseWithResolvers<Vector>;
}

/** Sums and assignments that reach over trainers, until {@linkcode RemotePeers.end}. */
export class RemotePeers implements Assigner {
  /** Trainers without replicas that get the sums of gradients and of what replicas share. */
  observers: readonly Observer[] = [];
  readonly #options: RemotePeersOptions;
  readonly #waits = new Set<PromiseWithResolvers<Vector>>();
  readonly #sums = new Map<string, PendingSum>();
  readonly #results = new Map<string, PromiseWithResolvers<Vector>>();
  #over: EpochOver | undefined;

  constructor(options: RemotePeersOptions) {
    this.#options = options;
  }

  /** Ends the epoch: all waits, and those that would come, reject with {@linkcode EpochOver}. */
  end(reason: string): void {
    this.#over ??= new EpochOver(reason);
    for (const wait of this.#waits) wait.reject(this.#over);
    this.#waits.clear();
    this.#sums.clear();
    this.#results.clear();
  }

  /** The group `group` as `replica` sees it. Sums of several groups under one key do not mix. */
  collective(replica: number, group: ReplicaRange): Collective {
    return {
      size: group.high - group.low,
      allReduce: (key, values) => this.#allReduce(`${key}@${group.low}`, values, { replica, group }),
    };
  }

  /**
   * The pieces of all replicas of a world of `slots`, one after the other in their order; `pieces` holds those of this
   * trainer's replicas, in order.
   */
  join(key: string, pieces: readonly Vector[], slots: number): Promise<Vector> {
    const { low, high } = this.#options.local;
    const values = joined(pieces);
    if (high - low === slots && this.observers.length === 0) return Promise.resolve(values);
    const whole = this.#result(key, `what replicas share, ${key}, from the parameter sync`);
    this.#contribute(key, { slots, low, high, values, join: true });
    return whole;
  }

  /** @inheritdoc */
  assign(request: AssignRequest): Promise<Vector> {
    const { step, replica, batch, rows } = request;
    const { send, epoch } = this.#options;
    const codes = this.#result(`${step}/${replica}`, `codes of step ${step} from the Sinkhorn coordinator`);
    if (this.#over === undefined) {
      send({ type: "scores", step, epoch, replica, batch, rows, values: toWire(request.scores) });
    }
    return codes;
  }

  /** Takes a message from the others; false when it is none of this object's. */
  receive(message: Message): boolean {
    if (message.type !== "reduced" && message.type !== "codes") return false;
    if (message.epoch !== this.#options.epoch) return true;
    const key = message.type === "reduced" ? message.key : `${message.step}/${message.replica}`;
    const result = this.#sums.get(key)?.result ?? this.#results.get(key);
    if (result !== undefined) this.#waits.delete(result);
    result?.resolve(f32FromWire(message.values));
    this.#sums.delete(key);
    this.#results.delete(key);
    return true;
  }

  async #allReduce(key: string, values: Vector, member: { replica: number; group: ReplicaRange }): Promise<Vector> {
    const { replica, group } = member;
    const low = Math.max(group.low, this.#options.local.low);
    const high = Math.min(group.high, this.#options.local.high);
    const pending = this.#sums.get(key) ?? { parts: new Map(), result: this.#newWait() };
    this.#sums.set(key, pending);
    if (pending.parts.has(replica)) throw new RangeError(`Replica ${replica} contributes twice to ${key}`);
    pending.parts.set(replica, values);
    if (pending.parts.size === high - low) this.#reduce(key, pending, { group, low, high });
    return await this.#within(pending.result, `the sum ${key} from the parameter sync`);
  }

  #reduce(key: string, pending: PendingSum, range: { group: ReplicaRange; low: number; high: number }): void {
    const { group, low, high } = range;
    const slots = group.high - group.low;
    for (const node of treeCover(slots, low - group.low, high - group.low)) {
      const vectors = Array.from({ length: node.high - node.low }, (_, offset) => {
        const part = pending.parts.get(group.low + node.low + offset);
        if (part === undefined) throw new RangeError(`Sum ${key} lacks replica ${group.low + node.low + offset}`);
        return part;
      });
      const values = treeSum(vectors);
      // Observers follow the weights: of gradients they need every sum, of statistics none. A trainer that is alone waits
      // for its own sum then, so that a step that is prepared has been told.
      const told = this.observers.length > 0 && key.startsWith("gradient/");
      if (node.high - node.low < slots || told) {
        this.#contribute(key, { slots, low: node.low, high: node.high, values });
        continue;
      }
      // The whole group lives here: nobody else is waited for.
      this.#waits.delete(pending.result);
      pending.result.resolve(values);
      this.#sums.delete(key);
      return;
    }
    pending.parts.clear();
  }

  #contribute(
    key: string,
    part: { slots: number; low: number; high: number; values: Vector; join?: boolean },
  ): void {
    if (this.#over !== undefined) return;
    const { values, join, ...range } = part;
    const observed = this.observers.length > 0 && (join || key.startsWith("gradient/"));
    this.#options.send({
      type: "contribute",
      key,
      epoch: this.#options.epoch,
      ...range,
      ...(join ? { join } : {}),
      ...(observed ? { observers: this.observers.map((observer) => ({ ...observer })) } : {}),
      values: toWire(values),
    });
  }

  #newWait(): PromiseWithResolvers<Vector> {
    const wait = Promise.withResolvers<Vector>();
    // Whoever waits gets it through `#within`; a wait that nobody takes up must not end the process.
    wait.promise.catch(() => {});
    if (this.#over === undefined) this.#waits.add(wait);
    else wait.reject(this.#over);
    return wait;
  }

  #result(key: string, what: string): Promise<Vector> {
    const result = this.#newWait();
    this.#results.set(key, result);
    const within = this.#within(result, what);
    // When the request cannot be sent, its sender fails and nobody takes this up.
    within.catch(() => {});
    return within;
  }

  async #within({ promise }: PromiseWithResolvers<Vector>, what: string): Promise<Vector> {
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
