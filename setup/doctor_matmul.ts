/**
 * The doctor's child process for one provider: multiplies two matrices on the adapter, compares every element with the
 * CPU's, and prints the adapter's figures and the largest difference as one marked line of JSON.
 */
import { openDevice } from "../device/open.ts";
import { matmul, matmulReference } from "../kernels/matmul.ts";
import { DOCTOR_MARK } from "./doctor_checks.ts";

/** Nothing divides by a tile's side, so that edges are computed too. */
const shape = { m: 67, n: 45, k: 131 };

if (import.meta.main) {
  const provider = Deno.args[0] === "dawn" ? "dawn" : "deno";
  const device = await openDevice({ provider });
  // Small integers: exact in f32 in any order of summation.
  const a = Float32Array.from({ length: shape.m * shape.k }, (_, i) => (i * 7) % 13 - 6);
  const b = Float32Array.from({ length: shape.k * shape.n }, (_, i) => (i * 5) % 11 - 5);
  const result = device.allocate(4 * shape.m * shape.n);
  device.run(matmul(shape), [device.upload(a), device.upload(b), result]);
  const [bytes] = await device.read([{ buffer: result, byteLength: 4 * shape.m * shape.n }]);
  const found = new Float32Array(bytes.buffer, bytes.byteOffset, shape.m * shape.n);
  const expected = matmulReference(shape, { a, b });
  const wrong = expected.filter((value, i) => value !== found[i]).length;
  console.log(DOCTOR_MARK + JSON.stringify({ adapter: device.adapter, wrong, elements: expected.length }));
  device.destroy();
  // Dawn keeps background work alive that would hold the process.
  Deno.exit(0);
}
