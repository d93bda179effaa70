/** The command `import`: another library's weights, checked strictly, under SEER's names. */
import { importWeights } from "../api/weights.ts";
import { ConfigError } from "../config.ts";
import { namings } from "../weights/naming.ts";
import type { CommandLine } from "./arguments.ts";
import { printWritten } from "./export.ts";
import { formatOption, networkOption, weightsOptions } from "./weights_options.ts";

/** Runs `import FILE --out FILE [--format NAME]`; resolves to the exit code. */
export async function importCommand(line: CommandLine): Promise<number> {
  const { format, out, place, network, rule } = weightsOptions(line, []);
  const [from, more] = line.operands;
  if (from === undefined || more !== undefined) {
    throw new ConfigError("weights", "import needs one file: deno task seer import FILE --out NEW.safetensors");
  }
  if (out === undefined) throw new ConfigError("out", "import needs --out FILE, which it writes");
  // An ONNX file's weights have torchvision's names.
  const named = formatOption(format, [...namings, "onnx"]);
  const naming = named === "onnx" ? "torchvision" : named;
  printWritten(await importWeights(from, { naming, out, place, spec: networkOption(network, rule) }));
  return 0;
}
