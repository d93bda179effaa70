/** The messages of features that actors on several hosts extract, one zod shape each. */
import { z } from "zod";
import { wireTensor } from "./tensor.ts";

const text = z.string().max(8192);
const count = z.int().min(0);
const three = z.tuple([z.number(), z.number(), z.number()]);

/** Shapes of shared extraction. */
export const evaluationMessages = {
  /** Controller → extractor: what to build; `parts` tensors follow. Answered by `ready`. */
  "extractor-open": z.strictObject({
    spec: z.record(z.string(), z.unknown()),
    seed: count,
    parts: count,
    head: z.strictObject({ dims: z.array(count).max(64), batchNorm: z.boolean() }).optional(),
    sideMax: count.optional(),
    normalisation: z.strictObject({ mean: three, std: three }).optional(),
  }),
  /** Controller → extractor: one tensor of the network's weights, in the layout of files. */
  "weights-part": z.strictObject({ name: z.string().max(512), tensor: wireTensor }),
  /** Controller → extractor: image files of one batch, as they are on disk. */
  "extract": z.strictObject({
    batch: count,
    size: count,
    view: z.enum(["whole", "centre"]).optional(),
    images: z.array(z.strictObject({ name: text, bytes: wireTensor })).max(4096),
  }),
  /** Extractor → controller: `[rows, columns]` features of those images that could be read, by their places in the batch. */
  "extracted": z.strictObject({ batch: count, kept: z.array(count).max(4096), values: wireTensor }),
} as const;
