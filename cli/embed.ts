/** The commands `embed` (features of images as `.npy` or Parquet, or printed) and `search` (nearest images as an HTML page). */
import { embedImages, imageFiles } from "../api/embed.ts";
import { galleryOf } from "../api/gallery.ts";
import { npyOf } from "../api/npy.ts";
import { parquetOf } from "../api/parquet.ts";
import { nearestNeighbours } from "../api/search.ts";
import { ConfigError } from "../config.ts";
import { nearest } from "../config/nearest.ts";
import type { CommandLine } from "./arguments.ts";
import { shortPath } from "./weights_options.ts";

type Options = Readonly<Record<string, string | undefined>>;

/** Options by name, each known to the command. */
function optionsOf({ command, overrides }: CommandLine, known: readonly string[]): Options {
  const found: Record<string, string> = {};
  for (const [name, value] of overrides) {
    if (!known.includes(name)) {
      throw new ConfigError(name, `${command} has no option --${name}; did you mean --${nearest(name, known)}?`);
    }
    found[name] = value;
  }
  return found;
}

function count(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (!/^[1-9]\d{0,5}$/.test(text)) throw new ConfigError(name, `--${name} must be a number from 1, found "${text}"`);
  return Number(text);
}

/** What both commands need of the command line. */
function embedOptions({ command, operands }: CommandLine, { weights, size, features = "trunk" }: Options) {
  if (weights === undefined || operands.length === 0) {
    throw new ConfigError(
      "weights",
      `${command} needs images and weights: deno task seer ${command} IMAGE … --weights RUN`,
    );
  }
  if (features !== "trunk" && features !== "head") {
    throw new ConfigError("features", `--features must be trunk or head, found "${features}"`);
  }
  return {
    weights,
    size: count("size", size),
    features,
    log: (line: string) => console.log(line),
    onProgress(_what: string, done: number, total: number) {
      if (Deno.stdout.isTerminal()) {
        const text = `\r\x1b[2Kfeatures: ${done} of ${total} images${done === total ? "\n" : ""}`;
        Deno.stdout.writeSync(new TextEncoder().encode(text));
      }
    },
  } as const;
}

/** Runs `embed IMAGE|FOLDER … --weights FILE [--out FILE.npy|FILE.parquet] [--format npy|parquet]`; resolves to the exit code. */
export async function embedCommand(line: CommandLine): Promise<number> {
  const options = optionsOf(line, ["weights", "size", "features", "out", "format"]);
  const { out, format = out?.endsWith(".parquet") ? "parquet" : "npy" } = options;
  const embed = embedOptions(line, options);
  if (format !== "npy" && format !== "parquet") {
    throw new ConfigError("format", `--format must be npy or parquet, found "${format}"`);
  }
  if (out !== undefined && !out.endsWith(`.${format}`)) {
    throw new ConfigError("out", `--out must end in .npy or .parquet, as --format says, found "${out}"`);
  }
  const files = await imageFiles(line.operands);
  const features = await embedImages(files, embed);
  if (out === undefined) {
    files.forEach((file, row) => {
      const numbers = features.data.subarray(row * features.columns, (row + 1) * features.columns);
      console.log(`${shortPath(file)}\t${Array.from(numbers, (value) => Number(value.toPrecision(6))).join(" ")}`);
    });
    return 0;
  }
  if (format === "parquet") {
    await Deno.writeFile(out, parquetOf(features, files));
    console.log(`wrote ${out}: ${features.rows} × ${features.columns}, with the files' names`);
    return 0;
  }
  await Deno.writeFile(out, npyOf(features));
  await Deno.writeTextFile(`${out.slice(0, -4)}.txt`, files.map((file) => `${file}\n`).join(""));
  console.log(`wrote ${out}: ${features.rows} × ${features.columns}; the files' names: ${out.slice(0, -4)}.txt`);
  return 0;
}

/** Runs `search QUERY … --weights FILE --data DIR [--count 10] [--out FILE.html]`; resolves to the exit code. */
export async function searchCommand(line: CommandLine): Promise<number> {
  const options = optionsOf(line, ["weights", "size", "features", "out", "data", "count"]);
  const { data, out = "search.html" } = options;
  const embed = embedOptions(line, options);
  if (data === undefined) throw new ConfigError("data", "search needs --data DIR, the folder of images to search in");
  const wanted = count("count", options.count) ?? 10;
  const queries = await imageFiles(line.operands), gallery = await imageFiles([data]);
  const features = await embedImages([...queries, ...gallery], embed);
  const { columns } = features;
  const part = (first: number, rows: number) => ({
    data: features.data.slice(first * columns, (first + rows) * columns),
    rows,
    columns,
  });
  const neighbours = await nearestNeighbours(part(0, queries.length), part(queries.length, gallery.length), {
    count: wanted + 1,
  });
  const rows = queries.map((query, i) => ({
    query,
    // A query that lies in the folder finds itself first.
    found: neighbours[i].filter(({ index }) => gallery[index] !== query).slice(0, wanted),
  }));
  await Deno.writeTextFile(out, galleryOf(rows, { files: gallery, title: `Nearest images in ${data}` }));
  for (const { query, found } of rows) {
    const [first] = found;
    const nearestOne = first === undefined
      ? "nothing"
      : `${shortPath(gallery[first.index])} (${first.similarity.toFixed(3)})`;
    console.log(`${shortPath(query)}: ${nearestOne}`);
  }
  console.log(`wrote ${out}: ${queries.length} queries among ${gallery.length} images`);
  return 0;
}
