/** The command `export`: weights of a run, or of any file, under another library's names. */
import { type ExportFormat, exportWeights, openingHint, type WrittenWeights } from "../api/weights.ts";
import { ConfigError } from "../config.ts";
import { trunkShape } from "../nn/trunk_shape.ts";
import { networkNames } from "../weights/network.ts";
import { namings } from "../weights/naming.ts";
import type { CommandLine } from "./arguments.ts";
import { formatOption, networkOption, shortPath, weightsOptions } from "./weights_options.ts";

const formats: readonly ExportFormat[] = [...namings.filter((naming) => naming !== "seer"), "onnx"];
const defaultTargets: Readonly<Partial<Record<ExportFormat, string>>> = {
  vissl: "exported-vissl.torch",
  onnx: "exported.onnx",
};

/** Runs `export --weights FILE --format NAME [--out PATH]`; resolves to the exit code. */
export async function exportCommand(line: CommandLine): Promise<number> {
  const { weights, format: text, out, place, network, rule } = weightsOptions(line, ["weights"]);
  const [operand, more] = line.operands;
  const from = weights ?? operand;
  if (from === undefined || more !== undefined || (weights !== undefined && operand !== undefined)) {
    throw new ConfigError("weights", "export needs one run or file: deno task seer export --weights RUN --format timm");
  }
  const format = formatOption(text, formats);
  if (format === undefined) throw new ConfigError("format", `export needs --format: ${formats.join(", ")}`);
  const written = await exportWeights(from, {
    format,
    out: out ?? defaultTargets[format] ?? `exported-${format}`,
    place,
    spec: networkOption(network, rule),
  });
  printWritten(written);
  if (written.leftOut.length > 0) {
    const shown = written.leftOut.slice(0, 4).join(", ");
    const rest = written.leftOut.length > 4 ? ", …" : "";
    console.log(`left out ${written.leftOut.length} tensors that ${format} has no place for: ${shown}${rest}`);
  }
  console.log(openingHint(format, written.source));
  return 0;
}

/** Tells what was read and what was written. */
export function printWritten({ source, files, count }: WrittenWeights): void {
  const { seer, timm } = networkNames(source.spec);
  const { family, parts } = trunkShape(source.spec);
  const stages = parts.slice(1);
  const network = seer === undefined
    ? `a ${family} of widths ${stages.map(({ width }) => width).join(", ")} and depths ${
      stages.map(({ blocks }) => blocks).join(", ")
    }`
    : `${seer.name}${seer.rule === "seer" ? "" : " by torchvision's rule"}${
      timm === undefined ? "" : ` (timm: ${timm})`
    }`;
  console.log(
    `read ${
      shortPath(source.path)
    }: ${network}, ${source.naming}'s names, ${source.report.matched.length} tensors match`,
  );
  console.log(`wrote ${files.map(shortPath).join(" and ")}: ${count} tensors`);
}
