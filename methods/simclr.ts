/**
 * SimCLR: two crops of an image attract each other and repel those of all other images of the world (arXiv 2002.05709;
 * version 2, arXiv 2006.10029, has a head of three layers). Each replica learns the embeddings and log-sums of the others
 * by sums to which it adds its own rows alone, so that what comes back has exact bits. It knows no message.
 */
import type { Collective } from "../collectives/collective.ts";
import type { Device } from "../device/device.ts";
import { type ProjectionHead, projectionHead } from "../nn/heads.ts";
import type { TrunkSpec } from "../nn/trunk_spec.ts";
import { buildTrunk } from "../nn/trunks.ts";
import { l2Normalize } from "../tensor/ops/l2_normalize.ts";
import { ntXent, ntXentForward } from "../tensor/ops/nt_xent.ts";
import { readTensors, tensorFrom } from "../tensor/tensor.ts";
import { meanDeviation, trunkFeatures } from "./passes.ts";
import type { Network, Objective, ReplicaInput, StepContext } from "./step.ts";

/** What to build. */
export interface SimclrModelSpec {
  readonly trunk: TrunkSpec;
  /** Hidden and output widths of the projection head; three in SimCLR v2. */
  readonly headDims: readonly number[];
  readonly headBatchNorm: boolean;
  readonly headLastBatchNorm?: boolean;
  /** Every initial weight is a function of this and the weight's name; zeros without it. */
  readonly seed: number | undefined;
}

/** Trunk and projection head: `trunk.…`, `head.…`. */
export interface SimclrModel extends Network {
  readonly head: ProjectionHead;
}

/** Builds the network with fresh weights. */
export function buildSimclrModel(device: Device, spec: SimclrModelSpec): SimclrModel {
  const { seed, headDims, headBatchNorm, headLastBatchNorm } = spec;
  const trunk = buildTrunk(spec.trunk, { device, seed, prefix: "trunk." });
  const dims = [trunk.width, ...headDims];
  const head = projectionHead({
    device,
    seed,
    prefix: "head.",
    dims,
    batchNorm: headBatchNorm,
    lastBatchNorm: headLastBatchNorm,
  });
  return {
    device,
    trunk,
    head,
    parameters: [...trunk.parameters(), ...head.parameters()],
    buffers: [...trunk.buffers(), ...head.buffers()],
  };
}

/** What a step of SimCLR works with. */
export interface SimclrContext extends StepContext {
  readonly model: SimclrModel;
  readonly temperature: number;
  /** All replicas as one of them sees them. */
  world(replica: number): Collective;
}

/**
 * The objective: NT-Xent over all replicas. Views are two crops per image; a replica's rows in the world are its own, then
 * those of the replicas after it, and of those before it.
 */
export function simclr(context: SimclrContext): Objective<ReplicaInput> {
  const { model, step, batch, replicas, temperature, world } = context;
  const scale = 1 / (2 * batch * replicas);
  return async (passes, joint) => {
    const gather = (what: string, replica: number, own: Float32Array) =>
      joint.within(gatherRows(world(replica), { key: `${what}/${step}`, own, replica, replicas }));
    const embedded = await joint.all(passes.map(async (pass) => {
      const projected = await model.head.forward(await trunkFeatures(pass, context), { ...pass.forward, pass: "head" });
      return l2Normalize(pass.tape, projected);
    }));
    const values = await readTensors(embedded);
    const forwards = await joint.all(passes.map(async ({ tape, input: { replica } }, index) => {
      const embeddings = embedded[index];
      const rows = await gather("embeddings", replica, values[index]);
      const all = tape.adopt(tensorFrom(tape.device, rows, [2 * batch * replicas, embeddings.shape[1]]));
      return ntXentForward(tape, { embeddings, world: all }, { temperature, scale });
    }));
    const logSums = await readTensors(forwards.map((forward) => forward.logSums));
    return await joint.all(passes.map(async ({ tape, input: { replica } }, index) => {
      const all = await gather("log-sums", replica, logSums[index]);
      const columns = embedded[index].shape[1];
      return {
        losses: () => ntXent(tape, forwards[index], tape.adopt(tensorFrom(tape.device, all, [all.length]))),
        embeddingDeviation: meanDeviation(values[index], { rows: batch, columns }),
      };
    }));
  };
}

/** The rows of all replicas, those of `replica` first: the world's order turned, whose sum is exact, zeros but for one. */
async function gatherRows(
  world: Collective,
  { key, own, replica, replicas }: { key: string; own: Float32Array; replica: number; replicas: number },
): Promise<Float32Array<ArrayBuffer>> {
  const placed = new Float32Array(own.length * replicas);
  placed.set(own, replica * own.length);
  const all = await world.allReduce(key, placed);
  const turned = new Float32Array(all.length);
  turned.set(all.subarray(replica * own.length));
  turned.set(all.subarray(0, replica * own.length), (replicas - replica) * own.length);
  return turned;
}
