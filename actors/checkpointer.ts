/**
 * The checkpointer: collects the parts of a snapshot that trainers send, writes them as one checkpoint, and sends a
 * checkpoint back on resume. It is the only actor with access to the run's checkpoints; it knows tensors by name alone.
 */
import { DirectoryStore } from "../checkpoint/store.ts";
import { f32Of, f32Tensor, type SafeTensor } from "../checkpoint/safetensors.ts";
import { parseConfig, type TrainConfig } from "../config.ts";
import type { Message } from "../wire/messages.ts";
import { f32FromWire, toWire } from "../wire/tensor.ts";
import { cutOff, lostPeer, regrouped } from "./membership.ts";
import type { Behavior, Effect } from "./runtime/behavior.ts";
import { mathsDigest, runFolder } from "./run_identity.ts";
import { actorIds } from "./seats.ts";

/** A snapshot being collected. */
interface Snapshot {
  progress: Record<string, unknown> | undefined;
  pinned: readonly number[];
  readonly model: Map<string, SafeTensor>;
  readonly optimizer: Map<string, SafeTensor>;
  received: number;
  /** First tensor of the model that holds NaN or infinity. */
  unfit: string | undefined;
  /** Whether all parts were sent. */
  complete: boolean;
}

interface CheckpointerState {
  config: TrainConfig | undefined;
  /** Membership epoch: snapshots of another are void; the controller has them taken anew. */
  epoch: number;
  trainers: readonly string[];
  store: DirectoryStore | undefined;
  readonly snapshots: Map<number, Snapshot>;
  /** Steps whose checkpoints are being written, one after the other. */
  readonly writing: Set<number>;
  written: Promise<unknown>;
  /** Messages with the state that was loaded, until they are sent. */
  loaded: Message[];
}

/** The behaviour of the checkpointer; `openStore` gives the run's store. */
export function checkpointerBehavior(
  openStore: (config: TrainConfig) => DirectoryStore = defaultStore,
): Behavior<CheckpointerState> {
  return {
    init: () => [{
      config: undefined,
      epoch: 0,
      trainers: [],
      store: undefined,
      snapshots: new Map(),
      writing: new Set(),
      written: Promise.resolve(),
      loaded: [],
    }, []],
    handle(state, message, from): [CheckpointerState, Effect[]] {
      switch (message.type) {
        case "stop":
          return [state, [{ kind: "stop", reason: message.reason }]];
        case "configure":
          state.config = parseConfig(message.config, { source: "the controller's configuration" });
          state.epoch = message.epoch ?? 0;
          state.trainers = message.trainers.map(({ id }) => id);
          state.store = openStore(state.config);
          return [state, [{ kind: "send", to: from, message: { type: "ready", detail: "" } }]];
        case "save":
          return [state, message.epoch === state.epoch ? save(state, message) : []];
        case "snapshot-part":
          return [state, message.epoch === state.epoch ? take(state, message) : []];
        case "snapshot-end":
          return [state, message.epoch === state.epoch ? finish(state, message, from) : []];
        case "regroup":
          return [state, regroup(state, message)];
        case "saved":
          state.writing.delete(message.step);
          return [state, [{ kind: "send", to: actorIds.controller, message }]];
        case "load":
          return [state, load(state, message.step)];
        case "loaded":
          return [state, [{ kind: "send", to: actorIds.controller, message }, ...sendState(state)]];
        case "peer-down":
          return [state, lostPeer(message)];
        default:
          return [state, []];
      }
    },
  };
}

function defaultStore(config: TrainConfig): DirectoryStore {
  return new DirectoryStore(runFolder(config), { keepLast: config.checkpoint.keep });
}

function snapshotOf(state: CheckpointerState, step: number): Snapshot {
  const snapshot = state.snapshots.get(step) ??
    {
      progress: undefined,
      pinned: [],
      model: new Map(),
      optimizer: new Map(),
      received: 0,
      unfit: undefined,
      complete: false,
    };
  state.snapshots.set(step, snapshot);
  return snapshot;
}

function save(state: CheckpointerState, message: Extract<Message, { type: "save" }>): Effect[] {
  const snapshot = snapshotOf(state, message.step);
  snapshot.pinned = message.pinned ?? [];
  snapshot.progress = message.progress;
  return write(state, message.step);
}

function take(state: CheckpointerState, message: Extract<Message, { type: "snapshot-part" }>): Effect[] {
  const snapshot = snapshotOf(state, message.step);
  const { file, name, tensor } = message.part;
  const values = f32FromWire(tensor);
  if (file === "model" && !values.every(Number.isFinite)) snapshot.unfit ??= name;
  snapshot[file].set(name, f32Tensor(values, tensor.shape));
  snapshot.received += 1;
  return [];
}

function finish(state: CheckpointerState, message: Extract<Message, { type: "snapshot-end" }>, from: string): Effect[] {
  const snapshot = snapshotOf(state, message.step);
  if (snapshot.received !== message.parts) {
    throw new RangeError(
      `Snapshot of step ${message.step} from ${from} has ${snapshot.received} of ${message.parts} parts`,
    );
  }
  snapshot.complete = true;
  return write(state, message.step);
}

/** What is not being written yet may never be complete: the controller has it taken anew. */
function regroup(state: CheckpointerState, message: Extract<Message, { type: "regroup" }>): Effect[] {
  state.epoch = message.epoch;
  state.trainers = message.trainers.map(({ id }) => id);
  state.snapshots.clear();
  return [...cutOff(message), regrouped(message.epoch)];
}

/** Writes the snapshot of `step` once every part is there. */
function write(state: CheckpointerState, step: number): Effect[] {
  const { config, store } = state;
  const snapshot = snapshotOf(state, step);
  const { progress } = snapshot;
  if (config === undefined || store === undefined || progress === undefined) return [];
  if (!snapshot.complete) return [];
  state.snapshots.delete(step);
  // A run that goes on from it could not get anywhere: the checkpoint before stays the newest.
  const { unfit } = snapshot;
  if (unfit !== undefined) {
    return [{ kind: "send", to: actorIds.controller, message: { type: "snapshot-unfit", step, name: unfit } }];
  }
  // The same state, taken again after a change of who takes part: that it was written is told once.
  if (state.writing.has(step)) return [];
  state.writing.add(step);
  return [{
    kind: "task",
    name: `write the checkpoint before step ${step}`,
    timeoutMs: config.cluster.stepTimeoutMs,
    async run() {
      // A store has one writer at a time.
      const own = state.written.then(() =>
        store.save({
          runId: config.run.name,
          step,
          progress,
          configDigest: mathsDigest(config),
          createdAt: new Date(),
          model: snapshot.model,
          optimizer: snapshot.optimizer,
          pinned: snapshot.pinned,
        })
      );
      state.written = own.catch(() => {});
      const saved = await own;
      return { type: "saved", step, folder: saved.folder, digest: saved.manifest.files["model.safetensors"].sha256 };
    },
  }];
}

function load(state: CheckpointerState, step: number | undefined): Effect[] {
  const { config, store } = state;
  if (config === undefined || store === undefined) return [];
  return [{
    kind: "task",
    name: "read the checkpoint",
    timeoutMs: config.cluster.startTimeoutMs,
    async run() {
      const { manifest, model, optimizer, notes } = await store.load(step ?? "latest");
      if (manifest.configDigest !== mathsDigest(config)) {
        throw new TypeError(
          `the checkpoint before step ${manifest.step} was written with another configuration; resume with the options of its run.json`,
        );
      }
      const parts = [...named("model", model), ...named("optimizer", optimizer)];
      const messages = parts.map((part): Message => ({ type: "state-part", step: manifest.step, part }));
      state.loaded = [...messages, { type: "state-end", step: manifest.step, parts: parts.length }];
      const digest = manifest.files["model.safetensors"].sha256;
      return { type: "loaded", step: manifest.step, digest, progress: manifest.progress, notes: [...notes] };
    },
  }];
}

type Part = Extract<Message, { type: "state-part" }>["part"];

function named(file: "model" | "optimizer", tensors: ReadonlyMap<string, SafeTensor>): Part[] {
  return [...tensors].map(([name, tensor]) => ({ file, name, tensor: toWire(f32Of(tensor), tensor.shape) }));
}

function sendState(state: CheckpointerState): Effect[] {
  const messages = state.loaded;
  state.loaded = [];
  return state.trainers.flatMap((to) => messages.map((message): Effect => ({ kind: "send", to, message })));
}
