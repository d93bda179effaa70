/** Compares the assignment of a step with Sinkhorn-Knopp in PyTorch (case 2 of generate.py), whole and shared out. */
import { assignWorld, type ReplicaScores } from "../../swav/assign.ts";
import { referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

interface SinkhornCase {
  readonly samples: number;
  readonly prototypes: number;
  readonly epsilon: number;
  readonly iterations: number;
}

/** Numbers of replicas that share a case's samples, unevenly where they do not divide. */
const worlds = [1, 2, 3, 7];

/** Rows for `folder`'s sinkhorn.safetensors; a shared-out world has to give the very bits of a single replica. */
export async function compareSinkhorn(folder: string): Promise<ReferenceRow[]> {
  const reference = await referenceArrays(folder, "sinkhorn");
  return reference.setting<SinkhornCase[]>("cases").flatMap((one, index) => {
    const scores = reference.numbers(`scores${index}`);
    const expected = reference.numbers(`codes${index}`);
    const whole = codesOf(scores, one, 1);
    const what = `sinkhorn ${one.samples}×${one.prototypes}, ${one.iterations} iterations`;
    return worlds.flatMap((replicas) => {
      const ours = codesOf(scores, one, replicas);
      const bits = row(`${what}: ${replicas} replicas as one`, { ours, reference: whole, bound: 0 });
      return [row(`${what}: ${replicas} replicas`, { ours, reference: expected, bound: 1e-5 }), bits];
    });
  });
}

function codesOf(scores: Float32Array<ArrayBuffer>, one: SinkhornCase, replicas: number): Float32Array {
  const { samples, prototypes, epsilon, iterations } = one;
  const starts = Array.from({ length: replicas + 1 }, (_, replica) => Math.floor((replica * samples) / replicas));
  const parts = Array.from({ length: replicas }, (_, replica): ReplicaScores => {
    const [from, to] = [starts[replica], starts[replica + 1]];
    return { batch: to - from, rows: to - from, scores: scores.slice(from * prototypes, to * prototypes) };
  });
  const { codes } = assignWorld(parts, { crops: 1, prototypes, epsilon, iterations });
  const joined = new Float32Array(scores.length);
  codes.forEach((part, replica) => joined.set(part, starts[replica] * prototypes));
  return joined;
}
