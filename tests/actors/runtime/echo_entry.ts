/** Entry of the processes that spawn_test.ts starts: one role that answers pings and can be told to misbehave. */
import type { Behavior, Effect, Role } from "../../../actors/runtime/behavior.ts";
import { runActorProcess } from "../../../actors/runtime/process.ts";

/** Answers `ping` with `pong`; fails on 13, exits hard on 99, and passes `directory` actors one ping each. */
export const echo: Role = {
  listens: true,
  create: (context): Behavior<number> => ({
    init: () => [0, [{ kind: "log", level: "info", text: `started with ${JSON.stringify(context.options)}` }]],
    handle(count, message, from) {
      if (message.type === "ping" && message.count === 13) throw new Error("unlucky");
      if (message.type === "ping" && message.count === 99) Deno.exit(42);
      if (message.type === "ping") {
        return [count + 1, [{ kind: "send", to: from, message: { ...message, type: "pong" } }]];
      }
      if (message.type === "directory") {
        const others = message.actors.filter((actor) => actor.id !== context.id);
        return [count, others.map(({ id }) => ({ kind: "send", to: id, message: { type: "ping", count: 7 } }))];
      }
      if (message.type === "pong") {
        return [count, [{ kind: "send", to: context.controller, message: { type: "log", level: "info", text: from } }]];
      }
      if (message.type === "stop") return [count, [{ kind: "stop", reason: message.reason }]];
      return [count, []];
    },
  }),
};

/** Accepts no connections, sends 300 large log lines to its controller and ends at once. */
export const talker: Role = {
  listens: false,
  create: (context): Behavior<null> => ({
    init: () => [null, [
      ...Array.from({ length: 300 }, (_, index): Effect => ({
        kind: "send",
        to: context.controller,
        message: { type: "log", level: "info", text: `${index} `.padEnd(10_000, "x") },
      })),
      { kind: "stop", reason: "said all" },
    ]],
    handle: () => [null, []],
  }),
};

if (import.meta.main) await runActorProcess({ echo, talker });
