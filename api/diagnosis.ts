/**
 * What a run's files tell: where its actors stand (`status`), and what happened to it in order (`postmortem`). It reads
 * `events.jsonl`, `status.json`, `metrics.jsonl` and `run.json`; it asks no process and changes nothing.
 */
import type { RunEvent, RunFailure, StepRecord } from "../actors/events.ts";
import { readMetrics, readNotes, type RunDescription, type RunNote, type WrittenStatus } from "../actors/run_files.ts";
import { ConfigError } from "../config.ts";
import { duration, evaluatorLine, probeLine } from "./progress.ts";

/** Age of a status beyond which nobody writes it any more. */
const staleMs = 10_000;

/** A run's status and whether somebody still keeps it. */
export interface RunStanding extends WrittenStatus {
  /** "running", how the run ended, or "gone" when its controller ended without a word. */
  readonly run: "running" | "finished" | "interrupted" | "failed" | "gone";
}

/**
 * Where the run in `folder` stands at `now`.
 *
 * @throws {ConfigError} when the folder holds no run that has started.
 */
export async function readStanding(folder: string, now: Date): Promise<RunStanding> {
  const text = await read(folder, "status.json");
  const status = JSON.parse(text) as WrittenStatus;
  const end = lastEnd(notesOf(folder));
  if (end?.kind === "ended") return { ...status, run: end.outcome };
  if (end !== undefined) return { ...status, run: "failed" };
  const ageMs = now.getTime() - Date.parse(status.at);
  return { ...status, run: ageMs > staleMs ? "gone" : "running" };
}

/** A standing as a table for a person. */
export function standingText(standing: RunStanding): string {
  const { run, phase, step, steps, epoch, savedStep, waitsFor, actors, at, pid } = standing;
  const rows = [
    ["actor", "role", "host", "pid", "start", "state", "step", "last heard"],
    ...actors.map((actor) => [
      actor.id,
      actor.role,
      actor.host,
      String(actor.pid ?? "-"),
      String(actor.attempt),
      actor.state,
      String(actor.step ?? "-"),
      actor.lastHeardMs === null ? "-" : `${(actor.lastHeardMs / 1000).toFixed(1)} s ago`,
    ]),
  ];
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return [
    `${run}: ${phase}, step ${step} of ${steps}, epoch ${epoch}, newest checkpoint ${
      savedStep ?? "none"
    }, controller pid ${pid}, at ${at}`,
    ...(run === "running" && waitsFor.length > 0 ? [`waits for ${waitsFor.join(", ")}`] : []),
    ...rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd()),
  ].join("\n");
}

/**
 * One page on the run in `folder`: what it was, what happened in order, how it ended, how to go on.
 *
 * @throws {ConfigError} when the folder holds no run.
 */
export async function postmortem(folder: string): Promise<string> {
  const description = JSON.parse(await read(folder, "run.json")) as RunDescription;
  const notes = notesOf(folder);
  const records = readMetrics(folder);
  const start = Date.parse(notes[0]?.at ?? description.createdAt);
  const since = (note: RunNote) => duration((Date.parse(note.at) - start) / 1000).padStart(8);
  const lines = told(notes).map((note) => `${since(note)}  ${note.text}`);
  return [
    `run ${description.run}, begun ${description.createdAt}, seed ${description.seed}`,
    ...Object.entries(description.adapters).map(([actor, adapter]) => `${actor}: ${adapter}`),
    "",
    ...lines,
    "",
    stepsText(records),
    ...endText(folder, notes),
  ].join("\n");
}

/** The notes that a person wants to read, checkpoints between two other events as one line. */
function told(notes: readonly RunNote[]): (RunNote & { text: string })[] {
  const lines: (RunNote & { text: string })[] = [];
  let saves: RunNote[] = [];
  const flush = () => {
    const steps = saves.flatMap(({ event }) => event.kind === "saved" ? [event.step] : []);
    const last = saves.at(-1);
    if (last !== undefined) {
      const many = steps.length > 1
        ? `${steps.length} checkpoints, before steps ${steps[0]} to `
        : "checkpoint before step ";
      lines.push({ ...last, text: `${many}${steps.at(-1)}` });
    }
    saves = [];
  };
  for (const note of notes) {
    if (note.event.kind === "saved") {
      saves.push(note);
      continue;
    }
    const text = noteText(note.event);
    if (text === undefined) continue;
    flush();
    lines.push({ ...note, text });
  }
  flush();
  return lines;
}

function noteText(event: RunEvent): string | undefined {
  switch (event.kind) {
    case "host-joined":
      return `${event.host} joined: ${event.adapters.join("; ") || "no adapter listed"}`;
    case "starting":
      return `starting ${event.actors.map(({ id, host }) => `${id} on ${host}`).join(", ")}`;
    case "resumed":
      return [`goes on before step ${event.step}`, ...event.notes].join("; ");
    case "refused":
      return `${event.count} connection${event.count === 1 ? "" : "s"} refused: ${event.reason}`;
    case "images-replaced":
      return `${event.images.length} unreadable images replaced at step ${event.step}: ${event.images[0]?.file ?? ""}`;
    case "joining":
      return `${event.actors.map(({ id, host }) => `${id} on ${host}`).join(", ")} will take part once it is ready`;
    case "regrouping":
      return regroupText(event);
    case "newcomer-lost":
      return `lost ${event.actor} before it took part: ${event.error.split("\n")[0]}`;
    case "host-lost":
      return `LOST ${failureText(event.failure)}; another takes its place, its actors go on`;
    case "restarting":
      return `LOST ${failureText(event.failure)}; restart ${event.restart} of ${event.restartsMax} without a new step`;
    case "failed":
      return `FAILED ${failureText(event.failure)}`;
    case "probe":
      return probeLine(event.record);
    case "evaluator-lost":
      return evaluatorLine(event);
    case "ended":
      return `${event.outcome} before step ${event.step}, SHA-256 ${event.digest.slice(0, 16)}…`;
    default:
      return undefined;
  }
}

function regroupText(
  { epoch, step, failure, lost, joined, trainers }: Extract<RunEvent, { kind: "regrouping" }>,
): string {
  const cause = failure === null ? [] : [`LOST ${failureText(failure)}`];
  const gone = lost.filter((id) => id !== failure?.actor);
  const others = gone.length === 0 ? [] : [`gone: ${gone.join(", ")}`];
  const come = joined.length === 0 ? [] : [`joined: ${joined.join(", ")}`];
  return [...cause, ...others, ...come, `epoch ${epoch}: ${trainers.join(", ")} take step ${step}`].join("; ");
}

function failureText({ actor, host, error }: RunFailure): string {
  return `${actor} on ${host}: ${error.split("\n")[0]}`;
}

function stepsText(records: readonly StepRecord[]): string {
  const [first, last] = [records.at(0), records.at(-1)];
  if (first === undefined || last === undefined) return "no step was taken";
  const speeds = records.map(({ imagesPerSecond }) => imagesPerSecond).sort((a, b) => a - b);
  return `steps ${first.step} to ${last.step}: loss ${first.loss.toFixed(4)} to ${last.loss.toFixed(4)}, ` +
    `median ${speeds[speeds.length >> 1].toFixed(1)} images/s`;
}

function endText(folder: string, notes: readonly RunNote[]): string[] {
  const end = lastEnd(notes);
  const resume = `go on: deno task pretrain --resume ${folder}`;
  if (end?.kind === "ended") return end.outcome === "finished" ? ["the run has finished"] : ["interrupted", resume];
  if (end?.kind === "failed") {
    return [`last lines of ${end.failure.actor}:`, ...end.failure.lines.map((line) => `  ${line}`), resume];
  }
  return ["the run has not told its end: it is running, or its controller ended without a word", resume];
}

/** The end of the latest start, if it has told one. */
function lastEnd(notes: readonly RunNote[]): Extract<RunEvent, { kind: "ended" | "failed" }> | undefined {
  // Somebody may knock while the run closes its doors.
  const last = notes.findLast(({ event }) => event.kind !== "refused")?.event;
  return last?.kind === "ended" || last?.kind === "failed" ? last : undefined;
}

function notesOf(folder: string): RunNote[] {
  try {
    return readNotes(folder);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

async function read(folder: string, name: string): Promise<string> {
  try {
    return await Deno.readTextFile(`${folder}/${name}`);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
    throw new ConfigError(
      "",
      `cannot read ${folder}/${name}: there is none; name the folder of a run that has started`,
    );
  }
}
