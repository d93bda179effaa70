/**
 * Matrix multiply and the three passes of RegNetY's convolutions, ours and the peers' in turns in one process, each checked
 * before it is timed. `deno task bench kernels [--quick] [--only TEXT] [--no-peers] [--families]`.
 */
import type { Device } from "../device/device.ts";
import { conv2dOutput, type Conv2dShape } from "../kernels/conv2d_shape.ts";
import { heavyOperations } from "../kernels/operations.ts";
import type { Storage } from "../kernels/variant.ts";
import { madeUp } from "../tests/kernels/close.ts";
import { convolutionsOf, NETWORKS } from "./layers.ts";
import { type Arm, timeArms, type Timed } from "./measure.ts";
import { openOwnArm, ownVariants, type Subject } from "./own_arm.ts";
import { openPeers } from "./peers/open.ts";
import type { Peer } from "./peers/peer.ts";
import type { Entry } from "./report.ts";
import { type Operands, type Pass, sampleConv2d, sampleMatmul } from "./sampled.ts";
import { entriesOf, finish, openForSuite, type SuiteOptions, suiteOptions } from "./suite.ts";
import { short, table } from "./table.ts";

/** One line of the tables: what is timed, by whom. */
interface Work {
  readonly name: string;
  readonly flops: number;
  readonly bytes: number;
  open(): { name: string; open: () => Promise<Arm> | Arm }[];
}

const OWN_ERROR_MAX = 2e-5;

function ownArms<Shape, Role extends string>(device: Device, subject: Subject<Shape, Role>, families: boolean) {
  return ownVariants(device, subject, families).map((choice) => ({
    name: choice.name,
    open: () => openOwnArm(device, subject, choice),
  }));
}

function bytesOf(sizes: Readonly<Record<string, number | undefined>>): number {
  return Object.values(sizes).reduce<number>((sum, size) => sum + (size ?? 0), 0);
}

function matmulWork(size: number, storage: Storage, { device, peers, families }: Bench): Work {
  const half = storage === "f16";
  const shape = { m: size, n: size, k: size, ...(half ? { storage } : {}) };
  const operation = heavyOperations.matmul;
  return {
    name: `matmul${half ? " f16" : ""}: ${size}×${size}×${size}`,
    flops: operation.flops(shape),
    bytes: bytesOf(operation.bufferBytes(shape)),
    open() {
      const [left, right] = [madeUp(size * size, 1), madeUp(size * size, 2)];
      const expected = sampleMatmul(shape, { left, right });
      const subject = {
        operation,
        shape,
        operands: { left, right },
        result: "product" as const,
        half,
        wideResult: !half,
        expected,
        // Operands in f16 are rounded, and so is the result.
        errorMax: half ? 2e-3 : OWN_ERROR_MAX,
      };
      return [
        ...ownArms(device, subject, families),
        ...(half ? [] : peers).map((peer) => ({
          name: peer.name,
          open: () => peer.matmul({ shape, left, right, expected }),
        })),
      ];
    },
  };
}

function conv2dWork(title: string, { shape, pass }: { shape: Conv2dShape; pass: Pass }, bench: Bench): Work {
  const { device, peers, families } = bench;
  const operation = heavyOperations[`conv2d ${pass}`];
  return {
    name: `${title} ${operation.name}: ${operation.describe(shape)}`,
    flops: operation.flops(shape),
    bytes: bytesOf(operation.bufferBytes(shape)),
    open() {
      const { inputLength, weightLength, outputLength } = conv2dOutput(shape);
      const operands: Operands = {
        input: madeUp(inputLength, 1),
        weight: madeUp(weightLength, 2),
        outGradient: madeUp(outputLength, 3),
      };
      const expected = sampleConv2d(shape, pass, operands);
      const common = { shape, expected, half: false, wideResult: true, errorMax: OWN_ERROR_MAX };
      const { input, weight, outGradient } = operands;
      const own = pass === "forward"
        ? ownArms(device, {
          ...common,
          operation: heavyOperations["conv2d forward"],
          operands: { input, weight },
          result: "output",
        }, families)
        : pass === "input gradient"
        ? ownArms(device, {
          ...common,
          operation: heavyOperations["conv2d input gradient"],
          operands: { outGradient, weight },
          result: "inputGradient",
        }, families)
        : ownArms(device, {
          ...common,
          operation: heavyOperations["conv2d weight gradient"],
          operands: { input, outGradient },
          result: "weightGradient",
        }, families);
      return [
        ...own,
        ...peers.map((peer) => ({ name: peer.name, open: () => peer.conv2d({ shape, pass, operands, expected }) })),
      ];
    },
  };
}

interface Bench {
  readonly device: Device;
  readonly peers: readonly Peer[];
  readonly families: boolean;
}

/** All works that were asked for; `quick` takes the smallest network's and two matrix sizes. */
function works({ quick, only }: SuiteOptions, bench: Bench): Work[] {
  const gpu = bench.device.adapter.kind === "gpu";
  const sizes = [...(quick ? [256, 1024] : [256, 512, 1024]), ...(gpu ? [2048, 4096] : [])];
  const list = sizes.map((size) => matmulWork(size, "f32", bench));
  if (bench.device.adapter.features.includes("f16")) {
    list.push(...sizes.filter((size) => size >= 1024).map((size) => matmulWork(size, "f16", bench)));
  }
  for (const network of quick ? NETWORKS.slice(0, 1) : NETWORKS) {
    const shapes = convolutionsOf(network);
    for (const pass of ["forward", "input gradient", "weight gradient"] as const) {
      for (const shape of shapes) {
        // Nothing asks for the gradient towards the images.
        if (pass === "input gradient" && shape.inChannels === 3) continue;
        list.push(conv2dWork(network.title, { shape, pass }, bench));
      }
    }
  }
  return list.filter(({ name }) => name.includes(only));
}

/** One row: our time and rate, and how many times as long each peer takes. */
function row({ name, flops }: Work, timed: readonly Timed[], peers: readonly Peer[]): string[] {
  const of = (arm: string) => timed.find((entry) => entry.arm === arm);
  const ours = of("ours")?.times;
  const versus = (arm: string) => {
    const theirs = of(arm)?.times;
    return ours && theirs ? `${(theirs.median / ours.median).toFixed(2)}×` : "–";
  };
  const range = ours ? `${short(ours.median)} [${short(ours.min)}, ${short(ours.max)}]` : "–";
  return [name, range, short(ours && flops / ours.median / 1e6), ...peers.map((peer) => versus(peer.name))];
}

if (import.meta.main) {
  const options = suiteOptions(Deno.args);
  const device = await openForSuite(options);
  const peers = options.peers ? await openPeers(device.adapter.provider) : [];
  const families = options.families || device.adapter.kind === "gpu";
  const entries: Entry[] = [];
  const rows: string[][] = [];
  for (const work of works(options, { device, peers, families })) {
    const timed = await timeArms(work.open());
    rows.push(row(work, timed, peers));
    console.log(rows[rows.length - 1].join("  "));
    for (const { arm, refusal } of timed) if (refusal !== undefined) console.log(`    ${arm}: ${refusal}`);
    const { name, flops, bytes } = work;
    entries.push(...entriesOf(timed, { suite: "kernels", name, flops, bytes }));
  }
  const heading = ["kernel", "ours, ms", "GFLOP/s", ...peers.map(({ name }) => name)];
  console.log(`\n${table(heading, rows)}`);
  await finish(options, {
    device,
    versions: Object.fromEntries(peers.map(({ name, version }) => [name, version])),
    entries,
  });
}
