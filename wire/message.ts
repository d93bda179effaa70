/**
 * Tables of messages: a name and a strict zod object each, joined into one discriminated union on `type`. This file
 * knows no message by name and no bytes.
 */
import { z } from "zod";
import { WireError } from "./error.ts";

/** Fields of each message, by name. */
export type MessageShapes = Record<string, z.ZodObject>;

/** The union of a table's messages, told apart by `type`. */
export type MessageOf<T extends MessageShapes> = {
  [Name in keyof T & string]: { type: Name } & Fields<T[Name]>;
}[keyof T & string];

/** Zod's type of an object without fields would forbid `type` too. */
type Fields<S extends z.ZodObject> = keyof S["shape"] extends never ? unknown : z.output<S>;

/** A set of messages that may travel. */
export interface MessageTable<M extends { type: string }> {
  readonly names: readonly string[];
  /**
   * `value` as a message of the table.
   *
   * @throws {WireError} for an unknown type, or fields that are missing, unknown or wrong.
   */
  parse(value: unknown): M;
}

/** Joins strict zod objects into a table; the key is the message's `type`. */
export function defineMessages<T extends MessageShapes>(shapes: T): MessageTable<MessageOf<T>> {
  const schemas = new Map<string, z.ZodObject>();
  for (const [name, shape] of Object.entries(shapes)) {
    if ("type" in shape.shape) throw new TypeError(`message "${name}" must not declare a field named "type"`);
    schemas.set(name, z.strictObject({ type: z.literal(name), ...shape.shape }));
  }
  return {
    names: [...schemas.keys()],
    parse(value: unknown): MessageOf<T> {
      const type = typeof value === "object" && value !== null && "type" in value ? value.type : undefined;
      const schema = typeof type === "string" ? schemas.get(type) : undefined;
      if (schema === undefined) throw new WireError(`message type ${shown(type)} is unknown`);
      const result = schema.safeParse(value);
      if (!result.success) throw new WireError(`message "${type}" is malformed: ${issueText(result.error)}`);
      return result.data as MessageOf<T>;
    },
  };
}

function shown(type: unknown): string {
  return typeof type === "string" ? JSON.stringify(type.slice(0, 80)) : typeof type;
}

function issueText(error: z.ZodError): string {
  const issue = error.issues[0];
  const path = issue.path.length === 0 ? "" : `${issue.path.join(".").slice(0, 80)}: `;
  return path + issue.message.slice(0, 300);
}
