/**
 * Prints every figure of the comparisons with PyTorch beside its bound, case by case in the order of generate.py, and
 * ends with status 1 when one exceeds it. The device is the one that training would take; SEER_TEST_PROVIDERS names
 * another.
 */
import type { Device, Provider } from "../../device/device.ts";
import { openDevice } from "../../device/open.ts";
import { compareAugment, type ReferenceRow } from "./augment.ts";
import { compareLarc } from "./larc.ts";
import { compareLinearProbe } from "./linear_probe.ts";
import { comparePublishedNetworks } from "./published_networks.ts";
import { comparePretrainCluster, comparePretrainSteps } from "./pretrain_steps.ts";
import { compareRegnety, compareResnet } from "./regnety.ts";
import { compareSinkhorn } from "./sinkhorn.ts";
import { compareSwavLoss } from "./swav_loss.ts";

type Comparison = (folder: string, device: Device) => Promise<ReferenceRow[]>;

const GOLDEN = decodeURIComponent(new URL("../golden", import.meta.url).pathname);

const COMPARISONS: readonly (readonly [string, Comparison])[] = [
  ["1 regnety", compareRegnety],
  // Not of generate.py, whose folder may be another.
  ["1b resnet", (_folder, device) => compareResnet(GOLDEN, device)],
  ["2 sinkhorn", compareSinkhorn],
  ["3 swav_loss", compareSwavLoss],
  ["4 larc", compareLarc],
  ["5 augment", compareAugment],
  ["6 pretrain_steps, one process", comparePretrainSteps],
  ["6 pretrain_steps, 2 trainers", (folder, device) => comparePretrainCluster(folder, { device, trainers: 2 })],
  ["6 pretrain_steps, 3 trainers", (folder, device) => comparePretrainCluster(folder, { device, trainers: 3 })],
  ["7 linear_probe", compareLinearProbe],
  ["8 published_networks", (folder, device) => comparePublishedNetworks(folder, { device })],
];

function formatRow({ name, figure, bound }: ReferenceRow, width: number): string {
  const verdict = figure <= bound ? "ok" : "EXCEEDED";
  return `  ${name.padEnd(width)}  ${figure.toExponential(2).padStart(9)}  ${
    bound.toExponential(2).padStart(9)
  }  ${verdict}`;
}

/** Prints one case and counts its rows. */
async function runCase(name: string, compare: () => Promise<ReferenceRow[]>): Promise<{ ok: number; failed: number }> {
  console.log(`\n${name}`);
  try {
    const rows = await compare();
    const width = Math.max(8, ...rows.map((row) => row.name.length));
    console.log(`  ${"".padEnd(width)}  ${"figure".padStart(9)}  ${"bound".padStart(9)}`);
    for (const row of rows) console.log(formatRow(row, width));
    // A comparison without a row has compared nothing; NaN is never within a bound.
    const failed = rows.length === 0 ? 1 : rows.filter(({ figure, bound }) => !(figure <= bound)).length;
    return { ok: rows.length - (rows.length === 0 ? 0 : failed), failed };
  } catch (error) {
    console.log(`  could not be compared: ${error instanceof Error ? error.stack : error}`);
    return { ok: 0, failed: 1 };
  }
}

if (import.meta.main) {
  const folder = Deno.env.get("REFERENCE_DIR") ?? GOLDEN;
  const [provider] = (Deno.env.get("SEER_TEST_PROVIDERS")?.split(",") ?? ["auto"]) as (Provider | "auto")[];
  const device = await openDevice({ provider });
  console.log(`Reference ${folder}, adapter ${device.adapter.name} [${device.adapter.provider}]`);
  const chosen = COMPARISONS.filter(([name]) =>
    Deno.args.length === 0 || Deno.args.some((word) => name.includes(word))
  );
  let [ok, failed] = [0, 0];
  for (const [name, compare] of chosen) {
    const counts = await runCase(name, () => compare(folder, device));
    ok += counts.ok;
    failed += counts.failed;
  }
  console.log(`\n${ok} within their bounds, ${failed} not`);
  Deno.exit(failed === 0 && ok > 0 ? 0 : 1);
}
