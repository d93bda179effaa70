/**
 * What all trainers need of each other's replicas after a step, cut out of vectors: the rows of every replica's queue and
 * the running statistics of replica 0; and for a trainer that follows, the sums of all gradients.
 */
import { scatterSlice } from "../../collectives/slices.ts";
import { type Tensor, tensorFrom } from "../../tensor/tensor.ts";
import type { Session } from "./session.ts";

type Vector = Float32Array<ArrayBuffer>;

/** The key under which replicas share what a step leaves behind. */
export function sharedKey(step: number): string {
  return `shared/${step}@0`;
}

/** The pieces of all replicas, from those of this trainer's. */
export async function sharedPieces(
  session: Session,
  { step, pieces, replicas, join }: {
    step: number;
    pieces: ReadonlyMap<number, Vector>;
    /** Those carried here, ascending. */
    replicas: readonly number[];
    join(key: string, pieces: readonly Vector[], slots: number): Promise<Vector>;
  },
): Promise<Vector[]> {
  const own = replicas.map((replica) => pieces.get(replica) ?? new Float32Array());
  return cut(session, await join(sharedKey(step), own, session.config.replicas));
}

/** All that a step needs which others have computed. */
export async function sumsOf(
  session: Session,
  { step, take, queued }: { step: number; take(key: string): Promise<Vector>; queued: boolean },
): Promise<{ sums: ReadonlyMap<string, Tensor>; shared: Vector[] }> {
  const { device, parameters } = session;
  const plan = session.planOf(step);
  const totals = new Map(plan.parameters.map(({ name, size }): [string, Vector] => [name, new Float32Array(size)]));
  for (const { index } of plan.slices) {
    const values = await take(`gradient/${step}/${index}@0`);
    scatterSlice(plan, index, { values, arrayOf: (name) => totals.get(name) ?? new Float32Array() });
  }
  const nothing = session.statisticsSize === 0 && !queued;
  const shared = nothing ? [] : cut(session, await take(sharedKey(step)));
  const sums = new Map(
    [...totals].map(([name, values]) => [
      name,
      tensorFrom(device, values, parameters.get(name)?.tensor.shape ?? [values.length]),
    ]),
  );
  return { sums, shared };
}

/** One piece a replica: equally long, but that of replica 0 ends in the running statistics. */
function cut({ config, statisticsSize }: Session, values: Vector): Vector[] {
  const { replicas } = config;
  const length = (values.length - statisticsSize) / replicas;
  if (!Number.isInteger(length)) {
    throw new RangeError(`Cannot share ${values.length} numbers among ${replicas} replicas: they must be as many each`);
  }
  const first = length + statisticsSize;
  return Array.from(
    { length: replicas },
    (_, replica) =>
      replica === 0 ? values.slice(0, first) : values.slice(first + (replica - 1) * length, first + replica * length),
  );
}
