/** The "did you mean" of unknown names: edit distance over dotted paths. It knows no configuration. */

/** Words that people of the field type for our keys. */
const synonyms: Readonly<Record<string, string>> = {
  lr: "learningRate",
  wd: "weightDecay",
  bs: "batchPerReplica",
  batch: "batchPerReplica",
  batchsize: "batchPerReplica",
  gpus: "trainers",
  workers: "trainers",
  protos: "count",
  nmbprototypes: "count",
  tau: "temperature",
  warmup: "warmupSteps",
};

/** Levenshtein distance with transpositions of neighbours counted once. */
export function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      row[j] = Math.min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) row[j] = Math.min(row[j], beforeLast[j - 2] + 1);
    }
    beforeLast = last;
    last = row;
  }
  return last[b.length];
}

function plain(name: string): string {
  return name.toLowerCase().replaceAll(/[-_\s]/g, "");
}

function leaf(path: string): string {
  return path.slice(path.lastIndexOf(".") + 1);
}

/**
 * The candidate that `name` most likely stands for. Case, `-` and `_` do not count; a right last word in the wrong group
 * counts for little, so that `learningRate` finds `schedule.learningRate`.
 *
 * @throws RangeError when there is no candidate
 */
export function nearest(name: string, candidates: readonly string[]): string {
  if (candidates.length === 0) throw new RangeError("nearest() needs at least one candidate, found none");
  const wanted = plain(name);
  const word = plain(leaf(name));
  const meant = Object.hasOwn(synonyms, word) ? plain(synonyms[word]) : word;
  const cost = (candidate: string) => {
    const whole = editDistance(wanted, plain(candidate));
    const last = editDistance(meant, plain(leaf(candidate)));
    // Between equal last words, the whole path decides.
    return Math.min(whole, last + 0.5) + whole / 1000;
  };
  return candidates.reduce((best, candidate) => cost(candidate) < cost(best) ? candidate : best);
}
