/**
 * What must hold of every simulated run, judged by what it has told: steps in order, none lost or doubled, each with the
 * images that are its own, commits before steps, epochs that only grow and lose nothing.
 */
import type { CommitRecord, RunEvent } from "../../actors/events.ts";

/** What a run's events come to. */
export interface Judgement {
  /** What broke a promise; none of a good run. */
  readonly faults: readonly string[];
  readonly ended: boolean;
  /** SHA-256 of the final weights. */
  readonly digest: string;
  /** Loss of each step in bits, as first taken. */
  readonly losses: readonly number[];
  /** Fingerprint of the weights that each step began with, as first taken. */
  readonly weights: readonly string[];
  /** Times that all actors started anew. */
  readonly restarts: number;
  /** Times that who takes part changed while the others kept their state. */
  readonly epochs: number;
  /** Times that a controller took over the actors of one before it. */
  readonly adoptions: number;
}

/** Judges a run over `images` images. */
export function judge(events: readonly RunEvent[], images: number): Judgement {
  const faults: string[] = [], losses: number[] = [], weights: string[] = [];
  let next = 0, committed = -1, epoch = -1;
  const count = (kind: RunEvent["kind"]) => events.filter((event) => event.kind === kind).length;
  for (const event of events) {
    switch (event.kind) {
      case "regrouping":
        // A change of who takes part loses nothing, and no two have one number.
        if (event.step !== next) faults.push(`epoch ${event.epoch} begins at step ${event.step}, not at ${next}`);
        if (event.epoch <= epoch) faults.push(`epoch ${event.epoch} follows epoch ${epoch}`);
        epoch = event.epoch;
        break;
      case "adopted":
        if (event.step !== next) faults.push(`a controller goes on before step ${event.step}, not ${next}`);
        break;
      case "commit":
        faults.push(...commitFaults(event.record, { committed, images }));
        committed = event.record.step;
        weights[committed] ??= event.record.weights;
        if (weights[committed] !== event.record.weights) faults.push(`step ${committed} began with other weights`);
        break;
      case "resumed":
        if (event.step > next) faults.push(`resumed before step ${event.step}, though step ${next} was not taken`);
        committed = event.step - 1;
        next = event.step;
        break;
      case "failed":
        faults.push(`failed: ${event.failure.actor}: ${event.failure.error}`);
        break;
      case "step": {
        const { step, loss } = event.record;
        if (step !== next) faults.push(`step ${step} came where step ${next} should`);
        if (step !== committed) faults.push(`step ${step} counts without a commit`);
        next = step + 1;
        losses[step] ??= loss;
        if (!Object.is(losses[step], loss)) faults.push(`step ${step} gave ${loss}, before ${losses[step]}`);
      }
    }
  }
  const end = events.at(-1);
  return {
    faults,
    ended: end?.kind === "ended",
    digest: end?.kind === "ended" ? end.digest : "",
    losses,
    weights,
    restarts: count("restarting"),
    epochs: count("regrouping"),
    adoptions: count("adopted"),
  };
}

function commitFaults(
  { step, samples }: CommitRecord,
  { committed, images }: { committed: number; images: number },
): string[] {
  const perEpoch = Math.floor(images / samples.count);
  const own = samples.first === (step % perEpoch) * samples.count && samples.epoch === Math.floor(step / perEpoch);
  return [
    ...(step === committed + 1 ? [] : [`step ${step} was committed after step ${committed}`]),
    ...(own ? [] : [`step ${step} used ${JSON.stringify(samples)}`]),
  ];
}
