/** `evaluate PROTOCOL`: reads its options, runs it with a line of progress, prints the table. */
import { evaluateProtocol, type EvaluateProtocolOptions } from "../api/evaluate_protocol.ts";
import { givenSecret } from "../api/join.ts";
import { ConfigError } from "../config.ts";
import { formatProtocol } from "../evaluate/protocol_text.ts";
import type { CommandLine } from "./arguments.ts";
import { parseProtocolOptions, type ProtocolOptions } from "./protocol_options.ts";

/** Other hosts to share the work with, where `--hosts` asks for any. */
function hostsOf(given: ProtocolOptions, options: CommandLine["options"]): EvaluateProtocolOptions["hosts"] {
  const secret = givenSecret(options);
  if (options.hosts === 1) return undefined;
  const token = secret ?? crypto.getRandomValues(new Uint8Array(32)).toHex();
  const { listen = "127.0.0.1", port = 0 } = given;
  return { count: options.hosts, listen, port, tls: options.tls, token };
}

/** Runs a protocol; resolves to the exit code. */
export async function protocolCommand(name: string, { overrides, options, operands }: CommandLine): Promise<number> {
  if (operands.length > 1) throw new ConfigError("protocol", `one protocol at a time, found ${operands.join(" ")}`);
  const given = parseProtocolOptions(overrides);
  const terminal = Deno.stdout.isTerminal();
  const result = await evaluateProtocol(name, {
    weights: given.weights,
    data: given.data,
    features: given.features,
    random: given.random === "true",
    trainers: given.trainers ?? options.hosts,
    hosts: hostsOf(given, options),
    few: { share: given.share, perClass: given["per-class"], list: given.list },
    writeList: given["write-list"],
    settings: {
      epochs: given.epochs,
      batch: given.batch,
      trunkRate: given["trunk-rate"],
      headRate: given["head-rate"],
      weightDecay: given["weight-decay"],
      size: given.size,
      seed: given.seed,
      neighbours: given.neighbours,
      temperatures: given.temperatures,
      shots: given.shots,
      draws: given.draws,
      costs: given.costs,
    },
    log: (line) => console.log(line),
    onProgress(what, done, total) {
      const text = `${what}: ${done} of ${total}`;
      if (terminal) Deno.stdout.writeSync(new TextEncoder().encode(`\r\x1b[2K${text}${done === total ? "\n" : ""}`));
      else if (done === total || what.startsWith("loss")) console.log(text);
    },
  });
  console.log(`\n${formatProtocol(result)}`);
  if (options.json !== undefined) await Deno.writeTextFile(options.json, JSON.stringify(result, null, 2) + "\n");
  return 0;
}
