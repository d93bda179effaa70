/** Log lines of actors: one line each, without control characters, and the last few kept. It knows no file. */
import type { LogLevel } from "../../wire/messages.ts";

const levels: readonly LogLevel[] = ["debug", "info", "warn", "error"];

/** `text` with control characters escaped (line ends become `\n`), so that no line can imitate another or move a cursor. */
export function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex -- control characters are what this looks for
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/g, escapeControl);
}

/** A log line as written to stderr and files: `warn  the text`. */
export function logLine(level: LogLevel, text: string): string {
  return `${level.padEnd(5)} ${oneLine(text)}`;
}

/** The last lines of a log, bounded. */
export class LogTail {
  #lines: string[] = [];

  constructor(private readonly linesMax: number = 200, private readonly lineLengthMax: number = 4_000) {}

  add(line: string): void {
    this.#lines.push(line.slice(0, this.lineLengthMax));
    if (this.#lines.length > this.linesMax) this.#lines.shift();
  }

  /** A copy, oldest first. */
  lines(): string[] {
    return [...this.#lines];
  }
}

/** Lines on their way to somebody, passed on a few at a time; of a flood the newest are kept. */
export class LineBatches {
  #lines: string[] = [];
  #waiting = false;

  constructor(
    private readonly pass: (lines: string[]) => void,
    private readonly everyMs: number = 300,
    private readonly linesMax: number = 250,
  ) {}

  add(line: string): void {
    if (this.#lines.length >= this.linesMax) this.#lines.shift();
    this.#lines.push(line.slice(0, 4_000));
    if (this.#waiting) return;
    this.#waiting = true;
    Deno.unrefTimer(setTimeout(() => {
      this.#waiting = false;
      this.pass(this.#lines.splice(0));
    }, this.everyMs));
  }
}

/** Whether `text` names a level. */
export function isLogLevel(text: string): text is LogLevel {
  return levels.some((level) => level === text);
}

function escapeControl(character: string): string {
  if (character === "\n") return "\\n";
  if (character === "\r") return "\\r";
  if (character === "\t") return "\\t";
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
