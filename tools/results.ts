/**
 * The numbers of docs/results.md: pretrains the quickstart's network by each method on the training part of each set, and
 * judges it and a random one on the test part by k-NN, a linear probe, 1% and 10% of the labels, and fine-tuning. Every
 * figure is a line of `OUT/results.jsonl` as soon as it is there; what is there already is not run again. The table goes to
 * standard output.
 *
 * Use: `deno run -A tools/results.ts SETS OUT [--sets a,b] [--seeds N] [--steps N] [--images N]`, with SETS as
 * `tools/results_data.ts` writes them. Linear probes and fine-tuning see about N images, and no more epochs than published.
 */
import { parseArgs } from "@std/cli/parse-args";
import { evaluateProtocol, pretrain, type Recipe } from "../mod.ts";

/** One figure of one run. */
interface Figure {
  readonly set: string;
  readonly method: string;
  readonly seed: number;
  readonly protocol: string;
  /** 0 to 1. */
  readonly top1: number;
  readonly trainImages: number;
  readonly testImages: number;
  readonly seconds: number;
}

/** One pretraining. */
interface Pretraining {
  readonly set: string;
  readonly method: string;
  readonly seed: number;
  readonly run: string;
  readonly digest: string;
  readonly seconds: number;
}

type Line = Figure | Pretraining;

const crop = { size: 48, scale: [0.35, 1] as [number, number] };
/** What differs from the preset `quickstart`. Rates, batch and length are the same for all; none was tuned. */
const methods: Readonly<Record<string, Recipe>> = {
  swav: {},
  simclr: {
    method: { name: "simclr" },
    crops: [{ ...crop, count: 2 }],
    head: { dims: [256, 256, 64], batchNorm: true },
  },
  supervised: { method: { name: "supervised", images: "all" }, crops: [{ ...crop, count: 1 }] },
};
const seed = 0;
const shared = { size: 48, seed };

const args = parseArgs(Deno.args, { string: ["sets", "seeds", "steps", "images"] });
const [sets, out] = args._.map(String);
const count = (name: "seeds" | "steps" | "images", fallback: number) => Number(args[name] ?? fallback);
const [seeds, steps, images] = [count("seeds", 1), count("steps", 400), count("images", 40_000)];
if (out === undefined || ![seeds, steps, images].every((value) => Number.isInteger(value) && value > 0)) {
  console.error("error: tools/results.ts needs two folders: the sets, and where results go; counts are whole numbers");
  Deno.exit(2);
}
await Deno.mkdir(out, { recursive: true });
const journal = `${out}/results.jsonl`;
const lines: Line[] = (await Deno.readTextFile(journal).catch(() => "")).split("\n").filter(Boolean)
  .map((line) => JSON.parse(line));

async function note(line: Line): Promise<void> {
  lines.push(line);
  await Deno.writeTextFile(journal, `${JSON.stringify(line)}\n`, { append: true });
}

async function timed<T>(action: () => Promise<T>): Promise<[T, number]> {
  const start = performance.now();
  return [await action(), Math.round((performance.now() - start) / 100) / 10];
}

async function pretrained(set: string, method: string, seed: number): Promise<string> {
  const known = lines.find((line): line is Pretraining =>
    "run" in line && line.set === set && line.method === method && line.seed === seed
  );
  if (known !== undefined) return known.run;
  const recipe: Recipe = {
    preset: "quickstart",
    ...methods[method],
    steps,
    seed,
    data: { folder: `${sets}/${set}/train` },
    run: { folder: `${out}/runs` },
  };
  const [{ run, digest }, seconds] = await timed(() => pretrain(recipe, { quiet: true }));
  await note({ set, method, seed, run, digest, seconds });
  return run;
}

type Settings = NonNullable<Parameters<typeof evaluateProtocol>[1]["settings"]>;

/** Epochs over a set's training images in which about `images` are seen. */
function epochsFor(set: string, most: number): number {
  const files = [...Deno.readDirSync(`${sets}/${set}/train`)].flatMap(({ name }) => [
    ...Deno.readDirSync(`${sets}/${set}/train/${name}`),
  ]);
  return Math.max(1, Math.min(most, Math.round(images / files.length)));
}

const protocols: readonly [string, string, Parameters<typeof evaluateProtocol>[1]["few"], Settings][] = [
  ["k-NN", "knn", undefined, { neighbours: [20], temperatures: [0.07] }],
  ["linear", "linear-swav", undefined, { epochs: 100 }],
  ["1% labels", "low-shot", { share: 0.01 }, {}],
  ["10% labels", "low-shot", { share: 0.1 }, {}],
  ["fine-tuned", "finetune", undefined, { epochs: 35 }],
];

async function judge(set: string, { method, seed }: { method: string; seed: number }): Promise<void> {
  const weights = await pretrained(set, method === "random" ? "swav" : method, seed);
  for (const [protocol, name, few, settings] of protocols) {
    const same = (line: Line) => line.set === set && line.method === method && line.seed === seed;
    if (lines.some((line) => "protocol" in line && same(line) && line.protocol === protocol)) continue;
    const random = method === "random";
    const epochs = settings.epochs === undefined ? {} : { epochs: epochsFor(set, settings.epochs) };
    const [found, seconds] = await timed(() =>
      evaluateProtocol(name, {
        ...{ weights, random, few },
        data: `${sets}/${set}`,
        settings: { ...shared, ...settings, ...epochs },
      })
    );
    const { "top-1": top1 } = found.rows[0].figures;
    const [trainImages, testImages] = [found.train.images, found.test.images];
    await note({ set, method, seed, protocol, top1, trainImages, testImages, seconds });
    console.error(`${set} ${method} seed ${seed} ${protocol}: ${top1.toFixed(3)} in ${seconds} s`);
  }
}

function table(set: string): string {
  const figures = lines.filter((line): line is Figure => "protocol" in line && line.set === set);
  const cell = (method: string, protocol: string) => {
    const values = figures.filter((figure) => figure.method === method && figure.protocol === protocol)
      .map(({ top1 }) => top1).sort((a, b) => a - b);
    if (values.length === 0) return "–";
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = values.length > 1 ? ` (${values[0].toFixed(3)} … ${values[values.length - 1].toFixed(3)})` : "";
    return `${mean.toFixed(3)}${spread}`;
  };
  const names = protocols.map(([protocol]) => protocol);
  return [
    `| ${["pretrained by", ...names].join(" | ")} |`,
    `| ${["---", ...names.map(() => "---")].join(" | ")} |`,
    ...["random", ...Object.keys(methods)].map((method) =>
      `| ${[method, ...names.map((protocol) => cell(method, protocol))].join(" | ")} |`
    ),
  ].join("\n");
}

for (const set of String(args.sets ?? "emoji,photographs,fashion").split(",")) {
  for (let run = 0; run < seeds; run++) {
    for (const method of ["random", ...Object.keys(methods)]) await judge(set, { method, seed: run });
  }
  console.log(`${set}\n\n${table(set)}\n`);
}
