/** What makes two runs the same run: the part of the configuration that decides the numbers, and the run's folder. */
import { canonicalJson, sha256Hex } from "../checkpoint/manifest.ts";
import type { TrainConfig } from "../config.ts";

/**
 * SHA-256 of the options that decide the weights. Where and on how many trainers a run takes place, how often it is
 * saved or judged, what is computed again to save memory, and where its images lie do not.
 */
export function mathsDigest(config: TrainConfig): string {
  const { cluster: _cluster, checkpoint: _checkpoint, checkpointing: _again, run: _run, probe: _probe, ...rest } =
    config;
  const { data, precision, method, head: { lastBatchNorm, ...head }, ...maths } = rest;
  // Full precision, SwAV and a plain end of the head go unsaid, so that digests from before there was a choice stay what
  // they were.
  const last = lastBatchNorm ? { lastBatchNorm } : {};
  const stored = precision === "f32" ? {} : { precision };
  const learned = method.name === "swav" ? {} : { method: methodFacts(method) };
  return sha256Hex(
    canonicalJson({ ...maths, head: { ...head, ...last }, ...stored, ...learned, data: { sideMax: data.sideMax } }),
  );
}

/** The options that a method has a use for. */
function methodFacts({ name, classes, images, targets }: TrainConfig["method"]): Readonly<Record<string, unknown>> {
  if (name === "simclr") return { name };
  return name === "supervised" ? { name, classes, images } : { name, classes, images, targets };
}

/** The folder of a run's files. */
export function runFolder(config: TrainConfig): string {
  return `${config.run.folder}/${config.run.name}`;
}
