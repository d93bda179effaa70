/**
 * What `gpu_client.ts` and `gpu_child.ts` say to each other. Both come from the same checkout and one starts the other, so
 * the types are the contract.
 */
import type { TrainConfig } from "../config.ts";
import type { View } from "../evaluate/features.ts";
import type { AdapterDescription } from "../device/device.ts";
import type { TunedChoice } from "../device/tuner.ts";
import type { ProtocolResult } from "../evaluate/protocols.ts";
import type { EvaluationReport } from "../evaluate/report.ts";
import type { EmbedRequest } from "./embed.ts";
import type { ShareRequest } from "./protocol_share.ts";
import type { ProtocolRequest } from "./evaluate_protocol.ts";

/** One line of the child's stdin. */
export type Request =
  | { readonly kind: "evaluate"; readonly run: string; readonly data?: string }
  | ({ readonly kind: "protocol" } & ProtocolRequest)
  | ({ readonly kind: "features" } & EmbedRequest)
  | ({ readonly kind: "share" } & ShareRequest)
  | { readonly kind: "open"; readonly path: string; readonly random: boolean }
  | { readonly kind: "embed"; readonly files: readonly string[]; readonly size?: number; readonly view?: View }
  | {
    readonly kind: "tune";
    readonly config: TrainConfig;
    readonly adapter: AdapterDescription;
    readonly keys: readonly string[];
  };

/** One marked line of the child's stdout. */
export type Answer =
  | { readonly kind: "progress"; readonly name: string; readonly done: number; readonly total: number }
  | { readonly kind: "chosen"; readonly choice: TunedChoice }
  | { readonly kind: "tuned" }
  | { readonly kind: "report"; readonly report: EvaluationReport }
  | { readonly kind: "result"; readonly result: ProtocolResult }
  | { readonly kind: "opened"; readonly width: number; readonly size: number; readonly config: TrainConfig }
  /** `rows · columns` 32-bit floats in the machine's byte order follow the line. */
  | {
    readonly kind: "features";
    readonly rows: number;
    readonly columns: number;
    /** Of a share: the images that could be read. */
    readonly ids?: readonly number[];
  }
  | { readonly kind: "failed"; readonly error: string };

/** The start of every line that is an answer. */
export const ANSWER_MARK = "SEER-ANSWER ";

/** The lines of a stream of text, without their ends. */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let text = "";
  for await (const bytes of stream) {
    text += decoder.decode(bytes, { stream: true });
    const lines = text.split("\n");
    text = lines.pop() ?? "";
    yield* lines;
  }
  if (text !== "") yield text;
}
