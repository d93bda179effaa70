/**
 * The command line as data: the command, its operands, the options that commands know, and everything else as overrides
 * of the configuration, which checks them. It reads no environment and prints nothing.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError } from "../config.ts";

/** Options of commands; all others are keys of the configuration. */
export interface CommandOptions {
  readonly preset?: string;
  readonly config?: string;
  /** Run folder to go on with. */
  readonly resume?: string;
  readonly hosts: number;
  readonly join?: string;
  /** Refused: a secret is no argument. */
  readonly token?: string;
  /** File with the run's secret. */
  readonly tokenFile?: string;
  /** PEM files of a host that joins. */
  readonly tls: { readonly certificate: string; readonly key: string; readonly authority: string };
  readonly advertise?: string;
  readonly json?: string;
  readonly singleProcess: boolean;
  /** Whether the controller gets a process of its own, which is started anew if it dies. */
  readonly keeper: boolean;
  /** Seconds in which a host looks for a controller that it has lost. */
  readonly rejoin: number;
  /** Time what was timed before. */
  readonly again: boolean;
  readonly help: boolean;
}

/** A parsed command line. */
export interface CommandLine {
  readonly command: string;
  readonly operands: readonly string[];
  readonly options: CommandOptions;
  /** Dotted keys with their text. */
  readonly overrides: readonly (readonly [string, string])[];
}

const files = ["token-file", "tls-certificate", "tls-key", "tls-authority"];
const texts = ["preset", "config", "resume", "hosts", "join", "rejoin", "token", "advertise", "json", ...files];
const switches = ["single-process", "no-keeper", "again", "help"];
/** Switches that stand for a key of the configuration with its value. */
const shorthands: Readonly<Record<string, readonly [string, string]>> = { "no-tune": ["cluster.tune", "off"] };

/**
 * Parses `argv`. `--key value` and `--key=value` both work.
 *
 * @throws {ConfigError} when an option lacks its value or `--hosts` is no count.
 */
export function parseCommandLine(argv: readonly string[]): CommandLine {
  const overrides: [string, string][] = [];
  const known: string[] = [];
  const [command = "help", ...rest] = argv;
  for (let index = 0; index < rest.length; index++) {
    const word = rest[index];
    const [name, inline] = splitOption(word);
    // For `status` it is a switch; for all others it names the file.
    if (name === "json" && inline === undefined && command === "status") {
      overrides.push([name, ""]);
      continue;
    }
    if (name !== undefined && Object.hasOwn(shorthands, name)) {
      overrides.push([...shorthands[name]]);
      continue;
    }
    if (name === undefined || texts.includes(name) || switches.includes(name)) {
      known.push(word);
      // The value travels with its option, whatever it looks like.
      if (name !== undefined && texts.includes(name) && inline === undefined && index + 1 < rest.length) {
        known[known.length - 1] = `${word}=${rest[++index]}`;
      }
      continue;
    }
    const value = inline ?? rest[++index];
    if (value === undefined) throw new ConfigError(name, `option --${name} needs a value: --${name} VALUE`);
    overrides.push([name, value]);
  }
  const parsed = parseArgs(known, { string: texts, boolean: switches });
  const text = (name: string): string | undefined => {
    const value = parsed[name];
    if (value === "") throw new ConfigError(name, `option --${name} needs a value: --${name} VALUE`);
    return typeof value === "string" ? value : undefined;
  };
  const hosts = text("hosts") ?? "1";
  if (!/^[1-9]\d{0,5}$/.test(hosts)) {
    throw new ConfigError("hosts", `option --hosts must be a number of machines from 1, found "${hosts}"`);
  }
  const rejoin = text("rejoin") ?? "120";
  if (!/^\d{1,6}$/.test(rejoin)) {
    throw new ConfigError("rejoin", `option --rejoin must be a number of seconds from 0, found "${rejoin}"`);
  }
  return {
    command: command.startsWith("-") ? "help" : command,
    operands: parsed._.map(String),
    overrides,
    options: {
      preset: text("preset"),
      config: text("config"),
      resume: text("resume"),
      hosts: Number(hosts),
      join: text("join"),
      token: text("token"),
      tokenFile: text("token-file"),
      tls: {
        certificate: text("tls-certificate") ?? "",
        key: text("tls-key") ?? "",
        authority: text("tls-authority") ?? "",
      },
      advertise: text("advertise"),
      json: text("json"),
      singleProcess: parsed["single-process"] === true,
      keeper: parsed["no-keeper"] !== true,
      rejoin: Number(rejoin),
      again: parsed.again === true,
      help: parsed.help === true,
    },
  };
}

function splitOption(word: string): [string | undefined, string | undefined] {
  const match = /^--([^=]+)(?:=(.*))?$/s.exec(word);
  return match === null ? [undefined, undefined] : [match[1], match[2]];
}
