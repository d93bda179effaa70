/**
 * What a run tells the outside: events for the person at the terminal, the run's files and experiments in TypeScript.
 * Plain data; nothing here acts.
 */

/** Device memory of the fullest trainer by purpose, in bytes; an older run's metrics lack it. */
export interface StepMemory {
  /** Weights and running statistics. */
  readonly parameters: number;
  readonly optimizer: number;
  readonly queues: number;
  /** At most at once during steps so far: activations, gradients, workspaces, images. */
  readonly transient: number;
  /** Of these, gradients: one of each replica that a trainer carries, and their sum; older metrics lack it. */
  readonly gradients?: number;
  /** In use between steps, and held altogether, buffers that wait for reuse included. */
  readonly live: number;
  readonly reserved: number;
}

/** One line of `metrics.jsonl`. */
export interface StepRecord {
  readonly step: number;
  readonly epoch: number;
  /** The method's loss, the mean over replicas. */
  readonly loss: number;
  /**
   * The loss in units of ln K, about 1 where nothing is learnt. K: prototypes (SwAV; staying at 1 means that the
   * assignments are uniform), the other crops of the step (SimCLR), classes or tags.
   */
  readonly lossOverLnK: number;
  readonly learningRate: number;
  readonly imagesPerSecond: number;
  /** Longest wait for images among the trainers. */
  readonly dataMs: number;
  /** Longest computation among the trainers, waits for others excluded. */
  readonly computeMs: number;
  /** Longest wait for other replicas among the trainers. */
  readonly syncMs: number;
  /** exp of the entropy of the mean assignment: how many prototypes are in use, at most K; 0 without them. */
  readonly prototypePerplexity: number;
  /** Mean standard deviation of the normalised embedding's components; 0 is collapse, 1/√d is spread evenly. */
  readonly embeddingDeviation: number;
  /** Of methods that learn from labels: share of the step's images whose class, or one of whose targets, came first. */
  readonly top1?: number;
  /** Peak device memory of the fullest trainer. */
  readonly deviceBytes: number;
  readonly memory?: StepMemory;
  /** In mixed precision: what the loss of this step was multiplied by. */
  readonly lossScale?: number;
  /** In mixed precision: steps left out so far because their gradients overflowed, this one included. */
  readonly skippedSteps?: number;
  /** Since the first step of this start. */
  readonly elapsedMs: number;
}

/** One line of `commits.jsonl`: written before any trainer moves its weights by the step. */
export interface CommitRecord {
  readonly step: number;
  /** Membership epoch in which it was taken. */
  readonly epoch: number;
  /** Fingerprint of the weights that it began with. */
  readonly weights: string;
  /** Its images: `count` places from `first` on in the order that the sampler gives images in their epoch. */
  readonly samples: { readonly epoch: number; readonly first: number; readonly count: number };
  /** How many trainers took it. */
  readonly trainers: number;
  /** Its line of `metrics.jsonl`, which is written after this one; older runs lack it. */
  readonly metrics?: StepRecord;
  /** What a controller that is started anew has to know besides. */
  readonly run: {
    readonly steps: number;
    readonly stepsPerEpoch: number;
    readonly images: number;
    /** Of the plateau schedule, after this step. */
    readonly plateau: Readonly<Record<string, unknown>>;
  };
}

/** One protocol's result on a snapshot; beside the steps in `metrics.jsonl`. */
export interface ProbeRecord {
  /** The snapshot is the state before this step. */
  readonly step: number;
  readonly probe: "knn" | "linear";
  /** Share of the test images whose class came first alone. */
  readonly top1: number;
  /** What the snapshot took, all its protocols together. */
  readonly seconds: number;
}

/** Where a run and its actors stand. */
export interface RunStatus {
  readonly phase: string;
  /** Number of the newest start of an actor. */
  readonly attempt: number;
  /** Membership epoch: grows whenever who takes part changes. */
  readonly epoch: number;
  /** The step under way, and how many there are; 0 until that is known. */
  readonly step: number;
  readonly steps: number;
  /** Step of the newest checkpoint of this start. */
  readonly savedStep: number | null;
  /** Whom the run waits for at the moment. */
  readonly waitsFor: readonly string[];
  readonly actors: readonly ActorStatus[];
}

/** One actor of a {@linkcode RunStatus}. */
export interface ActorStatus {
  readonly id: string;
  readonly role: string;
  readonly host: string;
  /** Null until it has started. */
  readonly pid: number | null;
  /** Number of its start, which its token names. */
  readonly attempt: number;
  readonly state: "starting" | "started" | "ready" | "following";
  /** Of a trainer: the step that it takes, or the one that it follows. */
  readonly step: number | null;
  /** Milliseconds since its last message or heartbeat; null until it has started. */
  readonly lastHeardMs: number | null;
}

/** Everything that a run reports, in order of occurrence. */
export type RunEvent =
  /** Connections that were refused, the first of a flood at once, then at most one event in five seconds. */
  | { readonly kind: "refused"; readonly reason: string; readonly count: number }
  | { readonly kind: "host-joined"; readonly host: string; readonly adapters: readonly string[] }
  | {
    /** All actors of the run start. */
    readonly kind: "starting";
    readonly actors: readonly { id: string; host: string }[];
    /** Number of the newest start of an actor so far. */
    readonly attempt: number;
  }
  /** A controller that was started anew has found actors of the one before it, which go on before `step`. */
  | { readonly kind: "adopted"; readonly step: number; readonly actors: readonly string[] }
  /** Trainers start beside those at work, to take part later. */
  | { readonly kind: "joining"; readonly actors: readonly { id: string; host: string }[]; readonly attempt: number }
  | { readonly kind: "started"; readonly actor: string; readonly pid: number }
  | { readonly kind: "ready"; readonly actor: string; readonly detail: string }
  | { readonly kind: "resumed"; readonly step: number; readonly notes: readonly string[] }
  /** Every two seconds. */
  | { readonly kind: "status"; readonly status: RunStatus }
  | {
    /** All actors are started anew from the newest checkpoint because one was lost. */
    readonly kind: "restarting";
    readonly failure: RunFailure;
    /** Restarts in a row without a new step, this one included, and how many there may be. */
    readonly restart: number;
    readonly restartsMax: number;
    /** Wait before it. */
    readonly delayMs: number;
  }
  | {
    /** Who takes part has changed: `trainers` take `step` next; the others keep what they have. */
    readonly kind: "regrouping";
    /** The membership epoch that begins. */
    readonly epoch: number;
    readonly step: number;
    /** Why, when something failed. */
    readonly failure: RunFailure | null;
    /** Losses in a row without a new step, this one included, and how many there may be; 0 without a failure. */
    readonly restart: number;
    readonly restartsMax: number;
    /** Actors and hosts that are gone; most start anew and come back. */
    readonly lost: readonly string[];
    /** Trainers that take part from now on. */
    readonly joined: readonly string[];
    readonly trainers: readonly string[];
    readonly attempt: number;
  }
  | {
    /** The host beside the controller is lost and another takes its place; its actors go on. */
    readonly kind: "host-lost";
    readonly failure: RunFailure;
    /** Losses in a row without a new step, this one included, and how many there may be. */
    readonly restart: number;
    readonly restartsMax: number;
    readonly attempt: number;
  }
  /** A trainer on its way to replicas was lost; nothing waits for it. */
  | {
    readonly kind: "newcomer-lost";
    readonly actor: string;
    readonly error: string;
    readonly startsAnew: boolean;
    readonly attempt: number;
  }
  /** A step counts from here on. */
  | { readonly kind: "commit"; readonly record: CommitRecord }
  | { readonly kind: "step"; readonly record: StepRecord; readonly steps: number }
  | { readonly kind: "probe"; readonly record: ProbeRecord }
  /** The evaluator was busy with an older snapshot until that of step `for` came, or, when null, the run ended. */
  | { readonly kind: "probe-skipped"; readonly step: number; readonly for: number | null }
  | {
    /** The evaluator ended; training goes on, and no more snapshots are judged unless it starts anew. */
    readonly kind: "evaluator-lost";
    readonly error: string;
    /** The snapshot it was judging. */
    readonly step: number | null;
    readonly startsAnew: boolean;
  }
  | { readonly kind: "saved"; readonly step: number; readonly folder: string; readonly digest: string }
  | {
    readonly kind: "images-replaced";
    readonly step: number;
    readonly images: readonly { file: string; replacement: string; error: string }[];
  }
  | { readonly kind: "log"; readonly actor: string; readonly lines: readonly string[] }
  | {
    readonly kind: "ended";
    readonly outcome: "finished" | "interrupted";
    readonly step: number;
    /** SHA-256 of `model.safetensors`. */
    readonly digest: string;
    readonly folder: string;
  }
  | { readonly kind: "failed"; readonly failure: RunFailure };

/** Why a run stopped, and where. */
export interface RunFailure {
  readonly actor: string;
  readonly host: string;
  readonly error: string;
  /** The actor's last log lines. */
  readonly lines: readonly string[];
}
