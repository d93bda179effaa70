/** A plan as text for people. It computes nothing but units. */
import type { Plan } from "../plan.ts";
import type { NetworkSummary } from "./network.ts";

/** A number with thousands separated by commas. */
function whole(value: number): string {
  return value.toLocaleString("en-US", { maximumFractionDigits: 0 });
}

function scaled(value: number, { base, units }: { base: number; units: readonly string[] }): string {
  const step = value < base ? 0 : Math.min(units.length - 1, Math.floor(Math.log(value) / Math.log(base)));
  const number = value / base ** step;
  return `${step === 0 ? whole(number) : number.toPrecision(number < 100 ? 3 : 4)} ${units[step]}`;
}

/** Bytes in powers of 1000, as networks and drives are sold. */
export function formatBytes(bytes: number): string {
  return scaled(bytes, { base: 1000, units: ["B", "kB", "MB", "GB", "TB", "PB"] });
}

function operations(count: number, unit: string): string {
  return scaled(count, { base: 1000, units: ["", "k", "M", "G", "T", "P", "E"].map((prefix) => prefix + unit) });
}

/** Rows under a header; the first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[], left = 1): string[] {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) =>
    "  " + row.map((text, i) => i < left ? text.padEnd(widths[i]) : text.padStart(widths[i])).join("  ").trimEnd()
  );
}

function modelLines(network: NetworkSummary): string[] {
  const { stages, headDims, parameters, macsPerImage, name } = network;
  const sizes = stages[0].at.map(({ size }) => size);
  const header = ["part", "blocks", "width", "parameters", ...sizes.flatMap((size) => [`at ${size} px`, "MACs"])];
  const rows = stages.map((stage) => [
    stage.name,
    whole(stage.blocks),
    whole(stage.width),
    whole(stage.parameters),
    ...stage.at.flatMap(({ side, macs }) => [`${side}x${side}`, operations(macs, "")]),
  ]);
  const total = sizes.flatMap((_, i) => ["", operations(stages.reduce((sum, { at }) => sum + at[i].macs, 0), "")]);
  const blank = sizes.flatMap(() => ["", ""]);
  return [
    `Model: ${name}`,
    ...table([
      header,
      ...rows,
      ["trunk", "", "", whole(parameters.trunk), ...total],
      [`head ${headDims.join("-")}`, "", "", whole(parameters.head), ...blank],
      ...(parameters.prototypes === 0 ? [] : [["prototypes", "", "", whole(parameters.prototypes), ...blank]]),
      ["together", "", "", whole(parameters.total), ...blank],
    ]),
    `  forward, all crops of one image: ${operations(macsPerImage.trunk + macsPerImage.head, "MAC")}`,
  ];
}

function memoryLines({ memory, replicasPerTrainer }: Plan): string[] {
  const one = replicasPerTrainer === 1;
  return [
    `Device memory of a trainer (f32, ${
      one ? "1 replica" : `${replicasPerTrainer} replicas`
    }), at most, plus up to a fifth for rounding`,
    ...table([
      ["", "all kept", "blocks computed again"],
      ["weights", formatBytes(memory.weightsBytes), formatBytes(memory.weightsBytes)],
      ["optimiser", formatBytes(memory.optimizerBytes), formatBytes(memory.optimizerBytes)],
      ["gradients", formatBytes(memory.gradientBytes), formatBytes(memory.gradientBytes)],
      ["activations", formatBytes(memory.activationBytes), formatBytes(memory.checkpointedActivationBytes)],
      ["together", formatBytes(memory.totalBytes), formatBytes(memory.checkpointedTotalBytes)],
    ]),
    "  blocks are computed again with --checkpointing.mode auto; the weights come out the same, bit for bit",
  ];
}

function scheduleLines({ schedule }: Plan): string[] {
  const length = schedule.steps === undefined
    ? "given in epochs: how many steps depends on the number of images"
    : `${whole(schedule.steps)} steps`;
  return [
    `Learning rate: ${schedule.name}, ${length}`,
    ...table(
      schedule.points.map(({ step, learningRate, note }) => [
        `step ${whole(step)}`,
        note,
        String(Number(learningRate.toPrecision(4))),
      ]),
      2,
    ),
  ];
}

/** The whole plan as lines of text. */
export function formatPlan(plan: Plan): string {
  const { network, compute, links, trainers, replicas, images } = plan;
  const shape = `${whole(replicas)} replicas on ${whole(trainers)} ${trainers === 1 ? "trainer" : "trainers"}`;
  return [
    ...modelLines(network),
    "",
    `Step: ${whole(images)} images; ${shape}`,
    ...table([
      ["", "whole step", "per trainer"],
      ["FLOPs, every output kept", operations(compute.flops, "FLOP"), operations(compute.trainerFlops, "FLOP")],
      [
        "FLOPs, blocks computed again",
        operations(compute.checkpointedFlops, "FLOP"),
        operations(compute.checkpointedTrainerFlops, "FLOP"),
      ],
    ]),
    "",
    ...memoryLines(plan),
    "",
    "Traffic of one trainer in one step",
    ...table([
      ["from", "to", "what", "messages", "bytes"],
      ...links.map(({ from, to, what, messages, bytes }) => [from, to, what, whole(messages), formatBytes(bytes)]),
    ], 3),
    "",
    ...scheduleLines(plan),
  ].join("\n");
}
