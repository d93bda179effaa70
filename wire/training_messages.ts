/**
 * The messages of a training run, one zod shape each: who starts, what a step needs, what a checkpoint holds. It knows the
 * words of training but nothing of what is done with them.
 */
import { z } from "zod";
import { wireTensor } from "./tensor.ts";

const step = z.number().int().min(0);
const replica = z.number().int().min(0).max(1_048_575);
const actor = z.string().min(1).max(128);
const text = z.string().max(8192);
const milliseconds = z.number().min(0);
/** What a step computed: NaN and the infinities too, which the controller has to hear of. zod's own number takes neither. */
const computed = z.custom<number>((value) => typeof value === "number", "expected a number");
/** Membership epoch: a number that grows with every change of who takes part; what carries an older one is void. */
const epoch = z.number().int().min(0);

/** Who carries which replicas: `[low, high)`. */
const trainerSeat = z.strictObject({ id: actor, low: replica, high: replica });

/** A trainer without replicas that follows, and the number of its start. */
const observer = z.strictObject({ id: actor, attempt: z.int().min(0) });

/** An image that could not be read and the one that took its place. */
const replacedImage = z.strictObject({ file: text, replacement: text, error: text });

/** One named tensor of the training state, under torchvision's names and layouts. */
const namedTensor = z.strictObject({
  file: z.enum(["model", "optimizer"]),
  name: z.string().max(512),
  tensor: wireTensor,
});

/** What a step gave for one replica; `top1` where the method learns from labels. */
const replicaReport = z.strictObject({
  replica,
  loss: computed,
  embeddingDeviation: computed,
  top1: z.number().min(0).max(1).optional(),
});

/** Shapes of the run's life: hosts, configuration, steps, the end. */
export const lifeMessages = {
  /**
   * Host → controller: this machine takes actors; `living` are those that an earlier controller had started, `code` tells
   * what program it runs.
   */
  "host-ready": z.strictObject({
    adapters: z.array(text).max(64),
    code: z.string().length(64).optional(),
    living: z.array(z.strictObject({ id: actor, role: actor, attempt: z.int().min(0) })).max(65_536).optional(),
  }),
  /** Controller → host: start one actor; an older process of that name is ended first. */
  "spawn": z.strictObject({
    id: actor,
    role: actor,
    environment: z.record(z.string(), z.string()),
    attempt: z.int().min(0).optional(),
  }),
  /** Controller → host: watch over actors of a host before it on the same machine, whose processes may live. */
  "take-over": z.strictObject({
    actors: z.array(z.strictObject({ id: actor, role: actor, attempt: z.int().min(0), pid: z.int().min(2) })).max(
      65_536,
    ),
  }),
  /** Controller → host: end all actors at once, for attempt number `attempt` begins; answered by `halted`. */
  "halt": z.strictObject({ attempt: z.number().int().min(1) }),
  /** Host → controller: no actor is left. */
  "halted": z.strictObject({ attempt: z.number().int().min(1) }),
  /** Host → controller: the process of an actor's start number `attempt` ended. */
  "actor-exited": z.strictObject({
    actor,
    code: z.number().int(),
    lines: z.array(text).max(64),
    attempt: z.int().min(0).optional(),
  }),
  /** Host → controller: this machine is about to go; its share of the work goes to others at the end of the step. */
  "leaving": z.strictObject({ reason: text }),
  /** Host, or an actor that has outlived its host → controller: what an actor wrote. */
  "log-lines": z.strictObject({ actor, lines: z.array(text).max(256) }),
  /** Controller → every actor: the run's configuration and who does what. */
  "configure": z.strictObject({
    config: z.record(z.string(), z.unknown()),
    trainers: z.array(trainerSeat).max(65_536),
    shards: z.array(actor).min(1).max(4096),
    epoch: epoch.optional(),
    adapter: z.strictObject({ provider: z.string().optional(), name: z.string().optional() }).optional(),
    /** For trainers: the recorded variant of each heavy operation and shape. */
    choices: z.record(z.string().max(512), z.string().max(200)).optional(),
  }),
  /** Any actor → controller: configured; `detail` is a line for people, such as the adapter in use. */
  "ready": z.strictObject({ detail: text }),
  /** An actor to itself: a wait is over. */
  "alarm": z.strictObject({ name: text }),
  /**
   * Controller → every actor of the run's steps: epoch `epoch` begins. The step under way is void; `step` is taken next, by
   * `trainers`. Links to those that are `gone` end, and what of them is older than start number `below` is let in no more.
   * Answered by `regrouped`.
   */
  "regroup": z.strictObject({
    epoch,
    step,
    trainers: z.array(trainerSeat).max(65_536),
    gone: z.array(z.strictObject({ actor, below: epoch })).max(65_536),
  }),
  /** Every actor of the run's steps → controller. */
  "regrouped": z.strictObject({ epoch }),
  /** An actor → controller: its link to `peer` broke. */
  "unreachable": z.strictObject({ peer: actor, reason: text }),
  /** Controller → trainers: prepare this step; its sums go to `observers` too. */
  "step": z.strictObject({
    step,
    epoch,
    learningRate: z.number(),
    observers: z.array(observer).max(4096).optional(),
  }),
  /** Controller → sync shards and Sinkhorn coordinator: the step is late; whose part is missing? */
  "inquire": z.strictObject({ epoch }),
  /** The answer: trainers whose parts are waited for. */
  "lacks": z.strictObject({ epoch, trainers: z.array(actor).max(65_536) }),
  /** Controller → trainers: all have prepared the step; it counts. */
  "commit": z.strictObject({ step, epoch, learningRate: z.number() }),
  /** Controller → a trainer without replicas: get the state before `step` from another, then follow step by step. */
  "observe": z.strictObject({ step, epoch }),
  /** A trainer without replicas → controller: its state is that after `step`. */
  "followed": z.strictObject({ step, epoch }),
  /** Controller → a trainer: send the state before `step` to these. */
  "share-state": z.strictObject({ step, epoch, to: z.array(actor).min(1).max(4096) }),
  /** Trainer → controller: all of the step but its update is done; one row per replica it carries. */
  "prepared": z.strictObject({
    step,
    epoch,
    /** Fingerprint of the weights that the step began with. */
    weights: z.string().max(64),
    replicas: z.array(replicaReport).max(65_536),
    dataMs: milliseconds,
    computeMs: milliseconds,
    syncMs: milliseconds,
    deviceBytes: z.number().min(0),
    memory: z.strictObject({
      parameters: z.number().min(0),
      optimizer: z.number().min(0),
      queues: z.number().min(0),
      transient: z.number().min(0),
      gradients: z.number().min(0).optional(),
      live: z.number().min(0),
      reserved: z.number().min(0),
    }).optional(),
    /** In mixed precision: the loss scale of this step, and the steps left out so far. */
    lossScale: z.number().positive().optional(),
    skippedSteps: z.number().int().min(0).optional(),
  }),
  /** Sinkhorn coordinator → controller: how evenly the step's samples use the prototypes. */
  "assignment": z.strictObject({ step, epoch, perplexity: computed }),
} as const;

/** Shapes of the data path. */
export const dataMessages = {
  /** Trainer → loader. */
  "want-batch": z.strictObject({ step, replica }),
  /** Loader → controller, once it has opened its source. */
  "source": z.strictObject({ images: z.number().int().min(1), stepsPerEpoch: z.number().int().min(1) }),
  /** Loader → trainer: decoded images of one replica's step, RGB bytes one image after the other, 4-aligned. */
  "batch": z.strictObject({
    step,
    replica,
    ids: z.array(z.number().int().min(0)).max(65_536),
    offsets: z.array(z.number().int().min(0)).max(65_536),
    widths: z.array(z.number().int().min(1)).max(65_536),
    heights: z.array(z.number().int().min(1)).max(65_536),
    pixels: wireTensor,
    replaced: z.array(replacedImage).max(65_536),
    /** For methods that learn from labels: the classes that each image is to be told by. */
    labels: z.array(z.array(z.int().min(0)).min(1).max(4096)).max(65_536).optional(),
  }),
  /** Loader → controller: images that could not be read and what took their place. */
  "images-replaced": z.strictObject({
    step,
    images: z.array(replacedImage).max(65_536),
  }),
} as const;

/** Shapes of the sums over replicas and of the world-wide assignment. */
export const exchangeMessages = {
  /**
   * Trainer → sync shard: the sum over slots `[low, high)` of `slots`, or with `join` their values one after the other. The
   * whole goes to all contributors and to `observers`.
   */
  "contribute": z.strictObject({
    key: z.string().max(256),
    epoch,
    join: z.boolean().optional(),
    observers: z.array(observer).max(4096).optional(),
    slots: replica,
    low: replica,
    high: replica,
    values: wireTensor,
  }),
  /** Sync shard → trainers that contributed. */
  "reduced": z.strictObject({ key: z.string().max(256), epoch, values: wireTensor }),
  /** Trainer → Sinkhorn coordinator: `[assignCrops, rows, prototypes]`; the first `batch` rows are this step's samples. */
  "scores": z.strictObject({ step, epoch, replica, batch: replica, rows: replica, values: wireTensor }),
  /** Sinkhorn coordinator → trainer: `[assignCrops, batch, prototypes]`. */
  "codes": z.strictObject({ step, epoch, replica, values: wireTensor }),
} as const;

/** Shapes of checkpoints. */
export const checkpointMessages = {
  /** Controller → trainer `by` and checkpointer: keep the state before step `step`. */
  "save": z.strictObject({
    step,
    epoch,
    by: actor,
    progress: z.record(z.string(), z.unknown()),
    /** Steps whose checkpoints are still read, and must not make room for this one. */
    pinned: z.array(step).max(8).optional(),
  }),
  /** Trainer → checkpointer. */
  "snapshot-part": z.strictObject({ step, epoch, part: namedTensor }),
  /** Trainer → checkpointer: `parts` tensors were sent. */
  "snapshot-end": z.strictObject({ step, epoch, parts: z.number().int().min(0) }),
  /** Checkpointer → controller: this tensor of the weights before `step` holds no numbers; nothing was written. */
  "snapshot-unfit": z.strictObject({ step, name: text }),
  /** Checkpointer → controller. */
  "saved": z.strictObject({ step, folder: text, digest: z.string().length(64) }),
  /** Controller → checkpointer: read the newest valid checkpoint, or that of a step, and send it to the trainers. */
  "load": z.strictObject({ step: step.optional() }),
  /** Checkpointer → controller. */
  "loaded": z.strictObject({
    step,
    digest: z.string().length(64),
    progress: z.record(z.string(), z.unknown()),
    notes: z.array(text).max(64),
  }),
  /**
   * Checkpointer, or a trainer, → trainers; `sha256` is that of the tensor's bytes, `to` whom a trainer's engine means,
   * `epoch` that in which it was asked for.
   */
  "state-part": z.strictObject({
    step,
    epoch: epoch.optional(),
    part: namedTensor,
    sha256: z.string().length(64).optional(),
    to: actor.optional(),
  }),
  /** Checkpointer, or a trainer, → trainers: the state is complete. */
  "state-end": z.strictObject({
    step,
    epoch: epoch.optional(),
    parts: z.number().int().min(0),
    to: actor.optional(),
  }),
  /** Trainer → controller. */
  "restored": z.strictObject({ step, epoch: epoch.optional() }),
  /** Controller → evaluator: judge the checkpoint in `folder`, the state before step `step`. */
  "probe": z.strictObject({ step, folder: text }),
  /** Evaluator → controller. */
  "probed": z.strictObject({
    step,
    results: z.array(z.strictObject({ protocol: z.enum(["knn", "linear"]), top1: z.number().min(0).max(1) })).max(8),
    seconds: z.number().min(0),
  }),
} as const;
