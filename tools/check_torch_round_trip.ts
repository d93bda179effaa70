/**
 * Proves on this machine that torch and this project read each other's files: Debian's torch writes every case, which is
 * read here, renamed, written and read again; then torch loads what was written strictly and compares each element.
 * `deno run -A tools/check_torch_round_trip.ts [--python FILE] [--golden]`; needs python3-torch and python3-torchvision,
 * and with `--golden` rewrites the files in `tests/golden/weights`.
 */
import { assertEquals } from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";
import { runCommand } from "../setup/command.ts";
import { toSeer } from "../weights/naming.ts";
import { networkNames, specOf, trunkTensors } from "../weights/network.ts";
import { readTorchFile } from "../weights/torch_file.ts";
import { writeTorchFile } from "../weights/torch_write.ts";
import { readWeights, renameWeights } from "../weights/weights.ts";
import { visslCheckpoint } from "../weights/write.ts";

const options = parseArgs(Deno.args, { string: ["python"], boolean: ["golden"] });
const python = typeof options.python === "string" ? options.python : "/usr/bin/python3";
const here = (path: string) => decodeURIComponent(new URL(path, import.meta.url).pathname);

async function torch(action: "write" | "check" | "names", folder: string): Promise<string> {
  const args = [here("torch_files.py"), action, folder];
  const { code, stdout, stderr } = await runCommand(python, { args, timeoutMs: 120_000 });
  if (code !== 0) throw new Error(`torch could not ${action}:\n${stderr}`);
  return stdout.trim();
}

const folder = await Deno.makeTempDir({ prefix: "seer-torch-" });
try {
  if (options.golden) await torch("write", here("../tests/golden/weights"));
  await torch("write", folder);
  const read = (name: string) => Deno.readFile(`${folder}/${name}`);

  const theirs = readWeights(await read("regnet_torchvision.pth"));
  const vissl = readWeights(await read("regnet_vissl.torch"));
  assertEquals(vissl.tensors, theirs.tensors, "torchvision's names and VISSL's are of the same weights");
  console.log(`read ${theirs.report.matched.length} tensors of torch's two formats; they are equal`);

  await Deno.writeFile(`${folder}/ours_torchvision.pth`, writeTorchFile(renameWeights(vissl, "torchvision").tensors));
  await Deno.writeFile(
    `${folder}/ours_vissl.torch`,
    writeTorchFile(visslCheckpoint(renameWeights(theirs, "vissl").tensors)),
  );
  const plain = readTorchFile(await read("plain_stream.pth")).dicts.get("state_dict");
  if (plain === undefined) throw new Error("plain_stream.pth holds no state_dict");
  await Deno.writeFile(`${folder}/ours_plain.pth`, writeTorchFile(plain));
  await Deno.writeFile(`${folder}/ours_wide.pth`, writeTorchFile(plain, { wide: true }));
  console.log(await torch("check", folder));

  await torch("names", folder);
  const builders: Record<string, [string, number[]][]> = JSON.parse(await Deno.readTextFile(`${folder}/names.json`));
  for (const [builder, tensors] of Object.entries(builders)) {
    const renamed = tensors.flatMap(([name, shape]) => {
      const ours = toSeer(name, "torchvision");
      return ours?.startsWith("trunk.") ? [{ name: ours, shape }] : [];
    });
    const spec = specOf(new Map(renamed.map((tensor) => [tensor.name, tensor])));
    assertEquals(trunkTensors(spec).map(({ name, shape }) => ({ name, shape })), renamed, builder);
    assertEquals(networkNames(spec).torchvision, builder);
  }
  console.log(
    `torchvision's own networks have the names, shapes and order of ours: ${Object.keys(builders).join(", ")}`,
  );
} finally {
  await Deno.remove(folder, { recursive: true });
}
