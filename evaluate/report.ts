/** What an evaluation found, as plain numbers, and as a table for people. It computes nothing. */
import type { RetrievalResult } from "./retrieval.ts";
import { layOut } from "./table.ts";

/** One kind of features. */
export interface EvaluationRow {
  /** `"trained"`, `"random"`, `"pixels"`. */
  readonly name: string;
  /** Numbers per image. */
  readonly width: number;
  /** k-NN accuracy, 0 to 1. */
  readonly knn: number;
  /** Linear-probe accuracy, 0 to 1. */
  readonly linear: number;
  /** Absent where the images are not two sets of the same things. */
  readonly retrieval?: RetrievalResult;
}

/** A whole evaluation; plain data, fit for JSON. */
export interface EvaluationReport {
  readonly train: { readonly name: string; readonly images: number };
  readonly test: { readonly name: string; readonly images: number };
  readonly classes: readonly string[];
  /** Share of the test images that always answering the training set's largest class gets right. */
  readonly largestClass: number;
  /** Side of the images that networks saw, in pixels. */
  readonly imageSize: number;
  readonly rows: readonly EvaluationRow[];
  /** Names of images that could not be read. */
  readonly unreadable: readonly string[];
}

function number(value: number): string {
  return value.toFixed(3);
}

/** The report as a table with a line of explanation above and below. */
export function formatReport(report: EvaluationReport): string {
  const { train, test, classes, largestClass, rows, unreadable } = report;
  const retrieved = rows.find((row) => row.retrieval !== undefined)?.retrieval;
  const header = ["features", "width", "k-NN", "linear probe"];
  if (retrieved) header.push("retrieval top-1", "top-5", "MRR");
  const body = rows.map(({ name, width, knn, linear, retrieval }) => {
    const cells = [name, String(width), number(knn), number(linear)];
    if (!retrieved) return cells;
    const { top1, top5, meanReciprocalRank } = retrieval ?? { top1: NaN, top5: NaN, meanReciprocalRank: NaN };
    return [...cells, number(top1), number(top5), number(meanReciprocalRank)];
  });
  const chance = ["largest class", "–", number(largestClass), number(largestClass)];
  if (retrieved) {
    const harmonic = Array.from({ length: retrieved.queries }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b, 0);
    chance[0] = "chance";
    chance.push(number(1 / retrieved.queries), number(Math.min(1, 5 / retrieved.queries)));
    chance.push(number(harmonic / retrieved.queries));
  }
  const lines = [
    `${classes.length} categories; learnt on ${train.name} (${train.images} images), tested on ${test.name} (${test.images})`,
    ...layOut([header, ...body, chance]),
  ];
  if (retrieved) {
    lines.push(
      `retrieval: each of ${retrieved.queries} ${test.name} images finds the same thing in ${train.name}; ties count as wrong`,
    );
  }
  if (unreadable.length > 0) lines.push(`${unreadable.length} unreadable images were left out`);
  return lines.join("\n");
}
