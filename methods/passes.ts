/**
 * The passes of a step: forward and backward of all local replicas side by side, and what objectives share. It knows no
 * loss, moves no weights and puts nothing back.
 */
import type { Collective } from "../collectives/collective.ts";
import { type Lane, runLanes } from "../tensor/lanes.ts";
import { concatRows } from "../tensor/ops/rows.ts";
import type { Tape } from "../tensor/tape.ts";
import { type Tensor, tensorFrom } from "../tensor/tensor.ts";
import { Joint } from "./joint.ts";
import type { Objective, ReplicaInput, ReplicaLosses, ReplicaPass, StepContext } from "./step.ts";

/**
 * Forward and backward passes of all replicas; resolves to their losses by rows, which the tapes free. Between the two
 * `forwarded` is told: what a step leaves behind besides gradients is final then.
 */
export async function computePasses<Input extends ReplicaInput>(
  { inputs, tapes, context, objective, forwarded }: {
    inputs: readonly Input[];
    tapes: readonly Tape[];
    context: StepContext;
    objective: Objective<Input>;
    forwarded(prepared: readonly ReplicaLosses[]): void;
  },
): Promise<{ prepared: readonly ReplicaLosses[]; losses: Tensor[] }> {
  const joint = new Joint();
  const { storage, segments } = context;
  const passes = inputs.map((input, index): ReplicaPass<Input> => {
    const tape = tapes[index], { replica } = input;
    const collective = jointly(context.collective?.(replica), joint);
    const forward = { tape, training: true, updateStatistics: replica === 0, collective, storage, segments };
    return { tape, input, forward };
  });
  const prepared = await objective(passes, joint);
  forwarded(prepared);
  const losses = await joint.all(passes.map((pass, index) => backward(pass, prepared[index], context)));
  return { prepared, losses };
}

/** The group's sums as one part of a step waits for them. */
function jointly(collective: Collective | undefined, joint: Joint): Collective | undefined {
  return collective && {
    size: collective.size,
    allReduce: (key, values) => joint.within(collective.allReduce(key, values)),
  };
}

/** Hands the gradients of one replica over; resolves to its loss by rows, which the tape frees. */
async function backward<Input extends ReplicaInput>(
  { tape, input }: ReplicaPass<Input>,
  prepared: ReplicaLosses,
  { model, gradients, resting, lossScale }: StepContext,
): Promise<Tensor> {
  const losses = prepared.losses();
  const byTensor = new Map(model.parameters.map((parameter) => [parameter.tensor, parameter]));
  const scaled = lossScale && new Float32Array(losses.size).fill(lossScale.value);
  await tape.backward(losses, {
    gradient: scaled && tape.adopt(tensorFrom(tape.device, scaled, losses.shape)),
    keep: [losses],
    onGradient(leaf, gradient) {
      const parameter = byTensor.get(leaf);
      if (parameter === undefined || resting?.has(parameter.name)) return;
      gradients.add(input.replica, parameter, gradient);
    },
  });
  return losses;
}

/**
 * The trunk's features of all crops, `[crops · batch, width]`, crop-major. One trunk pass per
 * crop size: each resolution has its own batch statistics. Where these are a group's, the passes run side by side, so that
 * a layer's exchanges of all sizes are one, unless memory matters more.
 */
export async function trunkFeatures<Input extends ReplicaInput>(
  { tape, input, forward }: ReplicaPass<Input>,
  { model, passesInTurn = false }: Pick<StepContext, "model" | "passesInTurn">,
): Promise<Tensor> {
  const { views } = input;
  const passes = views.map((view, index) => (lane?: Lane) =>
    model.trunk.forward(view, { ...forward, ...lane, pass: `crops ${index}` })
  );
  const { collective } = forward;
  if (collective !== undefined && passes.length > 1 && !passesInTurn) {
    return concatRows(tape, await runLanes(tape, { collective, passes }));
  }
  const features: Tensor[] = [];
  for (const pass of passes) features.push(await pass());
  return concatRows(tape, features);
}

/** Mean over components of the standard deviation over the first `rows` rows; 0 when all rows are equal. */
export function meanDeviation(values: Float32Array, { rows, columns }: { rows: number; columns: number }): number {
  let total = 0;
  for (let column = 0; column < columns; column++) {
    let sum = 0, squares = 0;
    for (let row = 0; row < rows; row++) sum += values[row * columns + column];
    const mean = sum / rows;
    for (let row = 0; row < rows; row++) squares += (values[row * columns + column] - mean) ** 2;
    total += Math.sqrt(squares / rows);
  }
  return total / columns;
}
