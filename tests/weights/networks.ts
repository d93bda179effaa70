/** Networks and weights for tests: any small RegNet, and tensors of the right shapes with elements that tell them apart. */
import fc from "fast-check";
import type { SafeTensor } from "../../checkpoint/safetensors.ts";
import type { RegnetSpec } from "../../nn/regnet_spec.ts";
import type { TrunkSpec } from "../../nn/trunk_spec.ts";
import { type ExpectedTensor, trunkTensors } from "../../weights/network.ts";

/** Small networks with odd widths, with and without squeeze-and-excitation. */
export const specs: fc.Arbitrary<Required<RegnetSpec>> = fc.record({
  stemWidth: fc.integer({ min: 1, max: 9 }),
  stages: fc.array(fc.record({ groups: fc.integer({ min: 1, max: 4 }), depth: fc.integer({ min: 1, max: 3 }) }), {
    minLength: 1,
    maxLength: 4,
  }),
  groupWidth: fc.integer({ min: 1, max: 5 }),
  seRatio: fc.constantFrom(0, 0.25, 0.5),
}).map(({ stemWidth, stages, groupWidth, seRatio }) => ({
  stemWidth,
  widths: stages.map(({ groups }) => groups * groupWidth),
  depths: stages.map(({ depth }) => depth),
  groupWidth,
  seRatio,
}));

/** Expected tensors with elements of which no two tensors have the same. */
export function tensorsOf(
  expected: readonly ExpectedTensor[],
  options: { counters?: boolean } = {},
): Map<string, SafeTensor> {
  const { counters = true } = options;
  return new Map(
    expected.filter(({ counter = false }) => counters || !counter).map(
      ({ name, shape, counter = false }, place): [string, SafeTensor] => {
        const count = shape.reduce((product, length) => product * length, 1);
        if (counter) {
          return [name, { dtype: "I64", shape, bytes: new Uint8Array(BigInt64Array.of(BigInt(place)).buffer) }];
        }
        const data = Float32Array.from({ length: count }, (_, i) => place + i / (count + 1));
        return [name, { dtype: "F32", shape, bytes: new Uint8Array(data.buffer) }];
      },
    ),
  );
}

/** Weights of a trunk, and of what may stand on it. */
export function weightsOf(
  spec: TrunkSpec,
  options: { counters?: boolean; classes?: number; head?: readonly number[] } = {},
): Map<string, SafeTensor> {
  const { classes, head = [] } = options;
  const width = spec.widths[spec.widths.length - 1];
  const linear = (name: string, shape: readonly number[]): ExpectedTensor[] => [
    { name: `${name}.weight`, shape },
    { name: `${name}.bias`, shape: [shape[0]] },
  ];
  const dims = [width, ...head];
  const last = dims[dims.length - 1];
  return tensorsOf([
    ...trunkTensors(spec),
    ...classes === undefined ? [] : linear("fc", [classes, width]),
    ...head.flatMap((out, i) => linear(`head.${2 * i}`, [out, dims[i]])),
    ...head.length === 0 ? [] : [{ name: "prototypes.weight", shape: [5, last] }],
  ], options);
}
