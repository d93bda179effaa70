/**
 * Activation checkpointing (Chen et al., arXiv 1604.06174): a segment of the network runs without being recorded, only its
 * input and its batch statistics are kept, and the backward pass runs it again. Same bits as without: features,
 * gradients, their order, running statistics. It does not know which segments are worth it (nn/segments.ts).
 */
import { SavedStatistics } from "./statistics.ts";
import { Tape } from "./tape.ts";
import { freeTensors, type Tensor } from "./tensor.ts";

/** What a segment's run is given. */
export interface SegmentRun {
  /** All that the segment does goes onto this tape. */
  readonly tape: Tape;
  /** What the segment's batch normalisations must use; `ForwardContext.statistics`. */
  readonly statistics: SavedStatistics;
}

/**
 * Runs a segment on `x`, now and again in the backward pass. Of the tensors that ops have made, `run` may read only `x`;
 * leaves (parameters) it may read freely. It must do the same each time; what it leaves on the tape is freed.
 */
export async function checkpoint(
  tape: Tape,
  x: Tensor,
  { run }: { run(segment: SegmentRun): Promise<Tensor> },
): Promise<Tensor> {
  const statistics = new SavedStatistics();
  if (!tape.gradients) {
    try {
      return await run({ tape, statistics });
    } finally {
      freeTensors(statistics.tensors());
    }
  }
  const first = new Tape(tape.device, { gradients: false, halves: tape.halves });
  try {
    const output = await run({ tape: first, statistics });
    if (output === x) return x;
    first.disown(output);
    return tape.recordSegment({
      input: x,
      output,
      saved: statistics.tensors(),
      reads: new Map(first.leafReads),
      recompute: (again) => run({ tape: again, statistics }),
    });
  } catch (error) {
    freeTensors(statistics.tensors());
    throw error;
  } finally {
    first.dispose();
  }
}
