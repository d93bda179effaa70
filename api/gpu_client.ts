/**
 * The parent's side of a child process that computes: sends one request at a time and waits for its answer. It opens no
 * device, so that it works in a process that was started without the driver's variables.
 */
import type { TunedChoice } from "../device/tuner.ts";
import { gpuCommand, gpuEnvironment } from "./gpu_process.ts";
import { type Answer, ANSWER_MARK, type Request } from "./gpu_protocol.ts";

/** An answer, with the bytes that follow it. */
export interface Reply {
  readonly answer: Answer;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** Told how far a request has come: images of how many. */
export type OnProgress = (name: string, done: number, total: number) => void;

/** Told each choice of the tuner. */
export type OnChoice = (choice: TunedChoice) => void;

/** A child process that computes. */
export class GpuClient {
  readonly #process: Deno.ChildProcess;
  readonly #requests: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array<ArrayBuffer>>;
  #received = new Uint8Array(0);
  #last: Promise<unknown> = Promise.resolve();

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#requests = process.stdin.getWriter();
    this.#reader = process.stdout.getReader();
  }

  /** Starts the child where the GPU can be seen. */
  static async start(log: (line: string) => void): Promise<GpuClient> {
    return GpuClient.startWith(await gpuEnvironment(log));
  }

  /** Starts the child with these variables. */
  static startWith(environment: Readonly<Record<string, string>>): GpuClient {
    return new GpuClient(
      gpuCommand({ entry: "api/gpu_child.ts", args: [], environment, stdin: "piped", stdout: "piped" }),
    );
  }

  /**
   * The answer to one request; requests are served in turn.
   *
   * @throws {Error} with the child's own message when it failed, or with how it ended.
   */
  request(request: Request, onProgress: OnProgress = () => {}, onChoice: OnChoice = () => {}): Promise<Reply> {
    const reply = this.#last.then(() => this.#serve(request, { onProgress, onChoice }));
    this.#last = reply.catch(() => {});
    return reply;
  }

  /** Ends the child at once, whatever it does; the request under way fails. */
  kill(): void {
    try {
      this.#process.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
  }

  /** Ends the child. */
  async close(): Promise<void> {
    await this.#last;
    await this.#requests.close().catch(() => {});
    await this.#reader.cancel().catch(() => {});
    await this.#process.status;
  }

  async #serve(
    request: Request,
    { onProgress, onChoice }: { onProgress: OnProgress; onChoice: OnChoice },
  ): Promise<Reply> {
    await this.#requests.write(new TextEncoder().encode(JSON.stringify(request) + "\n")).catch(() => {});
    while (true) {
      const line = await this.#line();
      if (!line.startsWith(ANSWER_MARK)) {
        console.error(line);
        continue;
      }
      const answer: Answer = JSON.parse(line.slice(ANSWER_MARK.length));
      if (answer.kind === "failed") throw new Error(answer.error);
      if (answer.kind === "progress") onProgress(answer.name, answer.done, answer.total);
      else if (answer.kind === "chosen") onChoice(answer.choice);
      else {return {
          answer,
          bytes: await this.#take(answer.kind === "features" ? 4 * answer.rows * answer.columns : 0),
        };}
    }
  }

  async #line(): Promise<string> {
    let end = this.#received.indexOf(10);
    while (end < 0) {
      await this.#more();
      end = this.#received.indexOf(10);
    }
    const line = new TextDecoder().decode(this.#received.subarray(0, end));
    this.#received = this.#received.slice(end + 1);
    return line;
  }

  async #take(byteLength: number): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(byteLength);
    for (let filled = 0; filled < byteLength;) {
      if (this.#received.length === 0) await this.#more();
      const part = this.#received.subarray(0, byteLength - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#received = this.#received.slice(part.length);
    }
    return bytes;
  }

  async #more(): Promise<void> {
    const { value, done } = await this.#reader.read();
    if (done) {
      const { code, signal } = await this.#process.status;
      throw new Error(`The process that computes ended with ${signal ?? `exit code ${code}`}; its messages are above`);
    }
    const joined = new Uint8Array(this.#received.length + value.length);
    joined.set(this.#received);
    joined.set(value, this.#received.length);
    this.#received = joined;
  }
}
