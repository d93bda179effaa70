/**
 * What the ablations share: each cell of a grid is a change of one recipe, pretrained with every seed and judged by k-NN.
 * A broken grid goes on where it stopped; `OUT` gets a journal, a table (Markdown, JSON) and a plot with seeds and spread.
 *
 *     deno run -A examples/ablations/NAME.ts --data DIR --out DIR [--seeds 3] [--steps 200] [--preset quickstart]
 *         [--images DIR] [--side 48]
 *
 * `--data` is labelled, as `deno task evaluate` takes it; `--images` is what is learnt from, the same where absent; `--side`
 * is the largest crop's.
 */
import { evaluateProtocol, type GridCell, pretrain, type Recipe, runGrid } from "../../mod.ts";

/** Options of every ablation. */
export interface AblationOptions {
  readonly data: string;
  readonly images: string;
  readonly out: string;
  readonly seeds: number;
  readonly steps: number;
  readonly preset: string;
  readonly side: number;
}

/** One cell: its name, and what it changes; `images` replaces the folder that is learnt from. */
export interface AblationCell {
  readonly name: string;
  readonly recipe: Recipe;
  readonly images?: string;
}

function parseOptions(args: readonly string[]): AblationOptions {
  const known = ["data", "images", "out", "seeds", "steps", "preset", "side"];
  const given: Record<string, string> = {};
  for (let i = 0; i < args.length; i += 2) {
    const name = args[i].replace(/^--/, "");
    if (!known.includes(name) || args[i + 1] === undefined) fail(`unknown or without a value: ${args[i]}`);
    given[name] = args[i + 1];
  }
  const { data, out, preset = "quickstart" } = given;
  if (data === undefined || out === undefined) fail("--data DIR and --out DIR are needed");
  const count = (name: string, fallback: number) => {
    const value = Number(given[name] ?? fallback);
    if (!Number.isInteger(value) || value < 1) fail(`--${name} must be a whole number from 1, found "${given[name]}"`);
    return value;
  };
  const counts = { seeds: count("seeds", 3), steps: count("steps", 200), side: count("side", 48) };
  return { data, images: given.images ?? data, out, preset, ...counts };
}

function fail(reason: string): never {
  console.error(`error: ${reason}; known: --data --out --images --seeds --steps --preset --side`);
  Deno.exit(2);
}

/** Runs an ablation by the command line's options and prints its table. */
export async function ablate(
  title: string,
  cellsOf: (options: AblationOptions) => readonly AblationCell[] | Promise<readonly AblationCell[]>,
): Promise<void> {
  const options = parseOptions(Deno.args);
  const { data, out, preset, steps, side } = options;
  const cells = (await cellsOf(options)).map(({ name, recipe, images = options.images }) => ({
    name,
    // All that decides the value is in the settings, for they are the journal's key.
    settings: { recipe: { preset, ...recipe, steps, data: { folder: images } }, data, side },
  }));
  await runGrid<GridCell<{ recipe: Recipe; data: string; side: number }>["settings"]>({
    title,
    measure: "k-NN top-1",
    cells,
    seeds: Array.from({ length: options.seeds }, (_, seed) => seed),
    out,
    log: (line) => console.log(line),
    async run({ recipe }, seed) {
      const { run } = await pretrain({ ...recipe, seed, run: { folder: `${out}/runs` } }, { quiet: true });
      const settings = { neighbours: [20], temperatures: [0.07], size: side };
      const { rows } = await evaluateProtocol("knn", { weights: run, data, settings });
      return rows[0].figures["top-1"];
    },
  });
  console.log(`\n${await Deno.readTextFile(`${out}/table.md`)}\n${out}/plot.svg`);
}
