/**
 * Compares logits of whole published networks with torchvision's (case 8 of generate.py): weights and images come from a
 * formula over names and positions, so that no large file is needed.
 */
import type { Device } from "../../device/device.ts";
import { classifier } from "../../nn/heads.ts";
import type { Module } from "../../nn/module.ts";
import { loadStateDict, type StateDict } from "../../nn/state_dict.ts";
import { type TrunkName, trunkSpec } from "../../nn/trunk_spec.ts";
import { buildTrunk } from "../../nn/trunks.ts";
import { Tape } from "../../tensor/tape.ts";
import { freeTensors, readTensors, tensorFrom } from "../../tensor/tensor.ts";
import { channelsLast, referenceArrays, row } from "./arrays.ts";
import type { ReferenceRow } from "./augment.ts";

/** Torchvision's name of a network and ours. */
export const PUBLISHED: Readonly<Record<string, TrunkName>> = {
  "regnet_y_400mf": "regnety_400mf",
  "regnet_y_8gf": "regnety_8gf",
  "resnet50": "resnet_50",
  "resnext101_32x8d": "resnext_101_32x8d",
  "regnet_x_400mf": "regnetx_400mf",
  "regnet_x_8gf": "regnetx_8gf",
  "resnet101": "resnet_101",
  "vit_b_16": "vit_b_16",
};

/** Files with logits, of generate.py and generate_trunks.py; other seeds of the first may come without the second. */
const FILES = ["published_networks", "published_trunks"];

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});

function crc32(text: string): number {
  let crc = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) crc = CRC_TABLE[(crc ^ byte) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** Numbers in [0, 1) that depend on the name and the position. */
export function formula(name: string, count: number): Float64Array<ArrayBuffer> {
  const key = crc32(name), result = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    let x = Math.imul(i + 1, 0x9e3779b1) ^ key;
    x = Math.imul(x ^ (x >>> 16), 0x85ebca6b);
    x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
    result[i] = ((x ^ (x >>> 16)) >>> 8) / 2 ** 24;
  }
  return result;
}

/** The formula's weights for every parameter and buffer of a module, whose names are torchvision's or made so. */
export function formulaWeights(
  model: Pick<Module, "parameters" | "buffers">,
  torchName: (name: string) => string = (name) => name,
): StateDict {
  return new Map(
    [...model.parameters(), ...model.buffers()].map(({ name, shape }) => {
      const count = shape.reduce((product, length) => product * length, 1);
      const spread = Math.sqrt(3 * shape[0] / count);
      const centred = name.endsWith("running_mean") || name.endsWith("bias");
      const value = shape.length > 1
        ? (u: number) => (2 * u - 1) * spread
        : centred
        ? (u: number) => (u - 0.5) / 5
        : (u: number) => 0.5 + u;
      return [name, { shape, data: Float32Array.from(formula(torchName(name), count), value) }];
    }),
  );
}

interface PublishedFacts {
  readonly image_size: number;
  readonly parameters: number;
}

/** Logits and facts of every network in `folder`'s files. */
async function publishedLogits(folder: string): Promise<Map<string, PublishedFacts & { logits: Float32Array }>> {
  const found = new Map<string, PublishedFacts & { logits: Float32Array }>();
  for (const file of FILES) {
    if (!await Deno.stat(`${folder}/${file}.safetensors`).then(() => true, () => false)) continue;
    const reference = await referenceArrays(folder, file);
    for (const [name, facts] of Object.entries(reference.setting<Record<string, PublishedFacts>>("networks"))) {
      found.set(name, { ...facts, logits: reference.numbers(`logits.${name}`) });
    }
  }
  return found;
}

/** Rows for the networks named by torchvision's names; without names for all that the files have. */
export async function comparePublishedNetworks(
  folder: string,
  { device, names }: { device: Device; names?: readonly string[] },
): Promise<ReferenceRow[]> {
  const networks = await publishedLogits(folder);
  const rows: ReferenceRow[] = [];
  for (const name of names ?? Object.keys(PUBLISHED).filter((name) => networks.has(name))) {
    const expected = networks.get(name);
    if (expected === undefined) throw new Error(`${folder} must have logits of ${name}, it has none`);
    const { image_size: size, parameters, logits: reference } = expected;
    const trunk = buildTrunk(trunkSpec(PUBLISHED[name], { rule: "torchvision" }), { device, seed: undefined });
    const fc = classifier({ device, seed: undefined, dim: trunk.width, classes: 1000 });
    const modules = [trunk, fc];
    const torchName = (given: string) => name.startsWith("vit") ? given.replace(/^fc\./, "heads.head.") : given;
    for (const module of modules) loadStateDict(module, formulaWeights(module, torchName));
    const tensors = modules.flatMap((module) => [...module.parameters(), ...module.buffers()].map((p) => p.tensor));
    const counted = modules.flatMap((module) => module.parameters()).reduce((sum, { tensor }) => sum + tensor.size, 0);
    const pixels = Float32Array.from(formula("input", 2 * 3 * size * size), (u) => 2 * u - 1);
    const x = tensorFrom(device, channelsLast(pixels, [2, 3, size, size]), [2, size, size, 3]);
    const tape = new Tape(device, { gradients: false });
    const context = { tape, training: false, updateStatistics: false, pass: "evaluation" };
    const logits = await fc.forward(await trunk.forward(x, context), context);
    const [ours] = await readTensors([logits]);
    rows.push(
      row(`${name} logits`, { ours, reference, bound: 1e-4 }),
      { name: `${name} parameters`, figure: Math.abs(counted - parameters), bound: 0 },
    );
    tape.dispose();
    freeTensors([x, ...tensors]);
  }
  return rows;
}
