/**
 * Times arms that do the same work, in turns: each is checked, warmed up, and given as many repeats per sample as make
 * samples of about equal length, so that what a wait costs weighs the same on all.
 */
import { roundOrder, SAMPLES_MIN, summarize, type Summary } from "./statistics.ts";

/** One of those that are compared. */
export interface Arm {
  readonly name: string;
  readonly note?: string;
  /** Largest relative error of the result that is allowed. */
  readonly errorMax: number;
  /** Does the work `repeats` times and waits for the end of it. */
  run(repeats: number): Promise<void>;
  /** Relative error of the result of a run. */
  check(): Promise<number>;
  dispose(): void;
}

/** Times of an arm in milliseconds per repeat, or why there are none. */
export interface Timed {
  readonly arm: string;
  readonly note?: string;
  readonly error: number | null;
  readonly times?: Summary;
  readonly refusal?: string;
}

/** Options of {@linkcode timeArms}. */
export interface TimeOptions {
  /** @default 5 */
  readonly rounds?: number;
  /** Length of a sample. @default 120 */
  readonly sampleMs?: number;
  /** An arm that takes longer for one run, after warming up, is timed once a round with one repeat. */
  readonly repeatsMax?: number;
}

async function elapsed(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}

/** Opens each arm, times all in turns, and disposes of them. An arm that fails is told with its reason. */
export async function timeArms(
  openers: readonly { name: string; open: () => Promise<Arm> | Arm }[],
  { rounds = SAMPLES_MIN, sampleMs = 120, repeatsMax = 200 }: TimeOptions = {},
): Promise<Timed[]> {
  const ready: { arm: Arm; error: number; repeats: number; samples: number[] }[] = [];
  const refused: Timed[] = [];
  for (const { name, open } of openers) {
    try {
      const arm = await open();
      await arm.run(1);
      const error = await arm.check();
      if (!(error <= arm.errorMax)) {
        arm.dispose();
        throw new Error(`wrong result: off by ${error.toExponential(1)}, allowed ${arm.errorMax.toExponential(0)}`);
      }
      const once = await elapsed(() => arm.run(1));
      const few = Math.max(1, Math.min(5, Math.floor(sampleMs / once)));
      const each = await elapsed(() => arm.run(few)) / few;
      const repeatsOf = (ms: number) => Math.max(1, Math.min(repeatsMax, Math.round(sampleMs / ms)));
      // A wait takes as long as several short runs, so that few of them seem longer than they are among many.
      const first = repeatsOf(each);
      const repeats = repeatsOf(await elapsed(() => arm.run(first)) / first);
      ready.push({ arm, error, repeats, samples: [] });
    } catch (cause) {
      const refusal = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1)[0].slice(0, 160);
      refused.push({ arm: name, error: null, refusal });
    }
  }
  for (let round = 0; round < Math.max(rounds, SAMPLES_MIN); round++) {
    for (const index of roundOrder(ready.length, round)) {
      const { arm, repeats, samples } = ready[index];
      samples.push(await elapsed(() => arm.run(repeats)) / repeats);
    }
  }
  for (const { arm } of ready) arm.dispose();
  return [
    ...ready.map(({ arm, error, samples }) => ({
      arm: arm.name,
      note: arm.note,
      error,
      times: summarize(samples),
    })),
    ...refused,
  ];
}
