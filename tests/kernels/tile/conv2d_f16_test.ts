import { base, type ConvCase, examine, pointwise } from "./conv2d_exam.ts";

const CASES: readonly ConvCase[] = [
  ["3x3 in groups of 8, stride 2, f16, normalised relu gated, moments", "tile 32x32", {
    ...base,
    inChannels: 16,
    groups: 2,
    stride: 2,
    storage: "f16",
    load: "normalised relu gated",
    moments: true,
  }],
  ["1x1 with odd channels, f16, normalised relu, moments", "tile 32x32", {
    ...pointwise,
    inChannels: 47,
    outChannels: 43,
    storage: "f16",
    load: "normalised relu",
    moments: true,
  }],
];

examine(CASES);
