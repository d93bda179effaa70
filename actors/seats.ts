/**
 * Placement as pure functions: which trainer carries which replicas, which host runs which actor. Replicas go to trainers
 * in contiguous ranges, so that a trainer can add up whole nodes of the reduction tree before it sends anything. Knows no
 * process and no message.
 */

/** A trainer and the replicas `[low, high)` that it carries. */
export interface TrainerSeat {
  readonly id: string;
  readonly low: number;
  readonly high: number;
}

/** Ids of the actors of which a run has one. */
export const actorIds = {
  controller: "controller",
  /** The host beside the controller: it alone may write checkpoints and is sure to have the images. */
  localHost: "host-0",
  checkpointer: "checkpointer",
  loader: "loader-0",
  sinkhorn: "sinkhorn",
  /** Judges snapshots in runs that ask for it; no other actor waits for it. */
  evaluator: "evaluator",
} as const;

/** One actor to be started on a host. */
export interface Placement {
  readonly id: string;
  readonly role: Role;
  readonly host: string;
  /** Position among the actors of the same role, for choosing a GPU. */
  readonly index: number;
}

/** The roles that a host starts. */
export type Role = "loader" | "trainer" | "sync" | "sinkhorn" | "checkpointer";

/**
 * Spreads `replicas` over the trainers of these ids, in order of their numbers, in contiguous ranges whose sizes differ by
 * at most one.
 *
 * @throws {RangeError} when there are more trainers than replicas.
 */
export function seatReplicas(replicas: number, ids: readonly string[]): TrainerSeat[] {
  const trainers = ids.length;
  if (trainers < 1 || trainers > replicas) {
    throw new RangeError(
      `Cannot seat ${replicas} replicas on ${trainers} trainers: every trainer carries at least one; set cluster.trainers to 1…${replicas}`,
    );
  }
  const inOrder = [...ids].sort((a, b) => numberOf(a) - numberOf(b));
  return inOrder.map((id, index) => ({
    id,
    low: Math.floor((index * replicas) / trainers),
    high: Math.floor(((index + 1) * replicas) / trainers),
  }));
}

/** Ids of `count` trainers. */
export function trainerIds(count: number): string[] {
  return freeTrainerIds([], count).map(({ id }) => id);
}

/** The lowest `count` ids of trainers that `taken` lacks, with their numbers. */
export function freeTrainerIds(taken: readonly string[], count: number): { id: string; index: number }[] {
  const free: { id: string; index: number }[] = [];
  for (let index = 0; free.length < count; index++) {
    const id = `trainer-${index}`;
    if (!taken.includes(id)) free.push({ id, index });
  }
  return free;
}

function numberOf(id: string): number {
  return Number(/\d+$/.exec(id)?.[0] ?? 0);
}

/**
 * How many trainers a run has on `hosts` hosts when `trainers` were meant for `planned`: as many a host, at least one, at
 * most one a replica.
 */
export function trainersFor(trainers: number, run: { replicas: number; hosts: number; planned: number }): number {
  return Math.min(run.replicas, Math.max(1, Math.floor((trainers * run.hosts) / run.planned)));
}

/** The adapter of trainer number `index`: the listed ones in turn, or what `gpu` finds. */
export function adapterOf(
  { adapters, gpu }: {
    readonly adapters: readonly { readonly provider?: string; readonly name?: string }[];
    readonly gpu: string;
  },
  index: number,
): { provider: string; name?: string } {
  const chosen = adapters.length === 0 ? undefined : adapters[index % adapters.length];
  return { provider: chosen?.provider ?? gpu, ...(chosen?.name === undefined ? {} : { name: chosen.name }) };
}

/**
 * Places the actors of a run on its hosts: trainers and sync shards in turn, the single actors on the first host; SwAV
 * alone has a Sinkhorn coordinator.
 */
export function placeActors(
  hosts: readonly string[],
  { trainers, shards, method = "swav" }: { trainers: number; shards: number; method?: string },
): Placement[] {
  const inTurn = (role: Role, count: number): Placement[] =>
    Array.from({ length: count }, (_, index) => ({
      id: `${role}-${index}`,
      role,
      host: hosts[index % hosts.length],
      index,
    }));
  const single = ([
    { id: actorIds.checkpointer, role: "checkpointer" },
    { id: actorIds.loader, role: "loader" },
    { id: actorIds.sinkhorn, role: "sinkhorn" },
  ] as const).map((actor): Placement => ({ ...actor, host: hosts[0], index: 0 }));
  return [
    ...single.filter(({ role }) => role !== "sinkhorn" || method === "swav"),
    ...inTurn("sync", shards),
    ...inTurn("trainer", trainers),
  ];
}
