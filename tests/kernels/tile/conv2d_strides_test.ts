import { base, type ConvCase, examine } from "./conv2d_exam.ts";

const CASES: readonly ConvCase[] = [
  ["7x5, stride 2, padding 2", "tile 32x32", {
    ...base,
    height: 13,
    width: 11,
    inChannels: 16,
    outChannels: 15,
    kernelHeight: 7,
    kernelWidth: 5,
    stride: 2,
    padding: 2,
  }],
  ["a ResNet's stem, 7x7 of 3 channels, stride 2, moments", "tile 64x16", {
    ...base,
    height: 14,
    width: 11,
    inChannels: 3,
    outChannels: 8,
    kernelHeight: 7,
    kernelWidth: 7,
    stride: 2,
    padding: 3,
    moments: true,
  }],
  ["1x1, stride 3, f16", "tile 32x32", {
    ...base,
    kernelHeight: 1,
    kernelWidth: 1,
    stride: 3,
    padding: 0,
    outChannels: 6,
    storage: "f16",
  }],
];

examine(CASES);
