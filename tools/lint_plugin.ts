/**
 * The project's own lint rules: which room may import which, who may name the GPU, the codec, zod and the clock, and how
 * long a function may be. The table of rooms is that of docs/architecture.md, section 1. `deno lint` loads this file; it
 * imports nothing.
 */

/** Rooms that a room may import; `type:` marks a room of which only types may be imported. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  "kernels": [],
  "device": ["kernels"],
  "tensor": ["device", "kernels"],
  "nn": ["tensor", "type:device", "type:collectives"],
  "optim": ["tensor"],
  "methods": ["tensor", "nn", "optim", "kernels", "type:device", "type:collectives"],
  "swav": ["methods", "tensor", "nn", "optim", "kernels", "type:device", "type:collectives"],
  "evaluate": ["tensor", "nn", "optim", "data", "type:device"],
  "data": [],
  "wire": [],
  "collectives": ["wire"],
  "checkpoint": ["wire"],
  "weights": ["nn", "checkpoint"],
  "config": ["config.ts", "nn"],
  "config.ts": ["config", "nn"],
  "plan": ["plan.ts", "config.ts", "config", "nn", "optim", "collectives", "actors"],
  "plan.ts": ["plan", "config.ts", "config", "nn", "optim", "collectives", "actors"],
  "actors/runtime": ["wire"],
  "dashboard": ["wire"],
  "setup": ["device", "kernels", "data", "wire"],
  "examples": ["mod.ts"],
};

/** All rooms; one without a line above, such as actors/ or api/, may import all that are imported at all. */
const ROOMS = [
  "kernels",
  "device",
  "tensor",
  "nn",
  "optim",
  "methods",
  "swav",
  "evaluate",
  "data",
  "wire",
  "collectives",
  "checkpoint",
  "weights",
  "actors/runtime",
  "actors",
  "dashboard",
  "setup",
  "cli",
  "config",
  "plan",
  "api",
  "examples",
  "tests",
  "bench",
  "tools",
] as const;

const NEVER_IMPORTED = ["examples", "tests", "bench", "tools"];

/** Rooms whose results depend on their inputs alone. */
const CLOCK_FREE = [
  "kernels",
  "tensor",
  "nn",
  "optim",
  "methods",
  "swav",
  "evaluate",
  "data",
  "collectives",
  "weights",
];

/** Rooms outside the product, free to name anything. */
const FREE = ["tests", "bench", "tools"];

const FUNCTION_LINES_MAX = 70;

/** The checkout's root, where this file's folder lies. */
const ROOT = decodeURIComponent(new URL("..", import.meta.url).pathname);

/** A file's path below the checkout, with forward slashes. */
export function projectPath(path: string): string {
  const plain = path.replaceAll("\\", "/");
  return plain.startsWith(ROOT) ? plain.slice(ROOT.length) : plain;
}

/** The room that a path below the checkout belongs to; for a file at the root, its name. */
export function roomOf(path: string): string {
  const room = ROOMS.filter((name) => path.startsWith(`${name}/`)).sort((a, b) => b.length - a.length)[0];
  return room ?? path.split("/")[0];
}

/** Where a relative import of `file` points, as a path below the checkout; `null` for a package. */
export function resolveImport(file: string, specifier: string): string | null {
  if (!/^\.\.?\//.test(specifier)) return null;
  const parts = file.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Why `file` may not import `target`, or `null` where it may. */
export function refuseImport(file: string, target: string, isType: boolean): string | null {
  const [from, to] = [roomOf(file), roomOf(target)];
  if (from === to || FREE.includes(from)) return null;
  if (NEVER_IMPORTED.includes(to)) return `${to}/ is imported by nobody, and ${file} imports ${target}`;
  const allowed = MAY_IMPORT[from];
  if (!allowed || allowed.includes(to)) return null;
  if (allowed.includes(`type:${to}`)) {
    return isType ? null : `${from}/ may import types of ${to}/ only; write \`import type\``;
  }
  const list = allowed.map((name) => name.replace("type:", "types of ")).join(", ") || "no other room";
  return `${from}/ may import ${list}, and ${file} imports ${target} (docs/architecture.md, section 1)`;
}

type ImportNode = Deno.lint.ImportDeclaration | Deno.lint.ExportNamedDeclaration | Deno.lint.ExportAllDeclaration;

function isTypeOnly(node: ImportNode): boolean {
  if (node.type === "ImportDeclaration") {
    const { specifiers } = node;
    return node.importKind === "type" ||
      (specifiers.length > 0 &&
        specifiers.every((specifier) => specifier.type === "ImportSpecifier" && specifier.importKind === "type"));
  }
  return node.exportKind === "type";
}

/** A rule that sees every import of a file: static, re-export and dynamic with a literal. */
function importRule(refuse: (file: string, specifier: string, isType: boolean) => string | null): Deno.lint.Rule {
  return {
    create(context) {
      const file = projectPath(context.filename);
      const check = (node: Deno.lint.Node, specifier: string, isType: boolean) => {
        const message = refuse(file, specifier, isType);
        if (message) context.report({ node, message });
      };
      const checkStatic = (node: ImportNode) => {
        if (node.source) check(node, node.source.value, isTypeOnly(node));
      };
      return {
        ImportDeclaration: checkStatic,
        ExportNamedDeclaration: checkStatic,
        ExportAllDeclaration: checkStatic,
        ImportExpression(node) {
          if (node.source.type === "Literal") check(node, String(node.source.value), false);
        },
      };
    },
  };
}

const rooms = importRule((file, specifier, isType) => {
  const target = resolveImport(file, specifier);
  return target === null ? null : refuseImport(file, target, isType);
});

/** Where foreign data is parsed by schema: messages, options, manifests, a new process's start, others' packages. */
function mayUseZod(file: string): boolean {
  const room = roomOf(file);
  if (["wire", "setup", "config", ...FREE].includes(room)) return true;
  return /^(?:config|presets?)\.ts$|^actors\/runtime\/bootstrap\.ts$|^checkpoint\/manifest\.ts$|(?:^|[/_])options\.ts$/
    .test(file);
}

const packages = importRule((file, specifier) => {
  const room = roomOf(file);
  if (/^(?:npm:)?webgpu(?:@|\/|$)/.test(specifier) && !["device", ...FREE].includes(room)) {
    return `only device/ imports webgpu, and ${file} does; go through device/open.ts`;
  }
  if (/^(?:npm:)?msgpackr(?:@|\/|$)/.test(specifier) && !["wire", ...FREE].includes(room)) {
    return `only wire/ imports msgpackr, and ${file} does; go through wire/codec.ts`;
  }
  if (/^(?:npm:)?zod(?:@|\/|$)/.test(specifier) && !mayUseZod(file)) {
    return `options are parsed once at the edge: only wire/, config.ts, checkpoint/manifest.ts and options files import zod`;
  }
  return null;
});

const gpuNames: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    if (["device", ...FREE].includes(roomOf(file))) return {};
    const report = (node: Deno.lint.Node, name: string) =>
      context.report({ node, message: `only device/ names ${name}, and ${file} does; go through device/device.ts` });
    return {
      Identifier(node) {
        if (/^GPU[A-Z]/.test(node.name)) report(node, node.name);
      },
      MemberExpression(node) {
        const isNavigator = node.object.type === "Identifier" && node.object.name === "navigator";
        if (isNavigator && node.property.type === "Identifier" && node.property.name === "gpu") {
          report(node, "navigator.gpu");
        }
      },
    };
  },
};

const clockFree: Deno.lint.Rule = {
  create(context) {
    const file = projectPath(context.filename);
    if (!CLOCK_FREE.includes(roomOf(file))) return {};
    const report = (node: Deno.lint.Node, name: string) =>
      context.report({
        node,
        message: `results here depend on inputs alone: take \`now\` as an argument, not ${name}`,
      });
    return {
      MemberExpression(node) {
        if (node.object.type !== "Identifier" || node.property.type !== "Identifier") return;
        const name = `${node.object.name}.${node.property.name}`;
        if (["Date.now", "performance.now", "Math.random"].includes(name)) report(node, name);
      },
      CallExpression(node) {
        if (node.callee.type === "Identifier" && ["setTimeout", "setInterval"].includes(node.callee.name)) {
          report(node, node.callee.name);
        }
      },
      NewExpression(node) {
        if (node.callee.type === "Identifier" && node.callee.name === "Date") report(node, "new Date");
      },
    };
  },
};

type FunctionNode = Deno.lint.FunctionDeclaration | Deno.lint.FunctionExpression | Deno.lint.ArrowFunctionExpression;

const functionLength: Deno.lint.Rule = {
  create(context) {
    // A test file's functions hold whole tests, each with its own name.
    if (roomOf(projectPath(context.filename)) === "tests") return {};
    const lineBreaks = ([start, end]: readonly [number, number]) =>
      context.sourceCode.text.slice(start, end).split("\n").length - 1;
    /** Lines inside template literals (WGSL, help texts), for each function that is open. */
    const open: { templateLines: number }[] = [];
    let depth = 0;
    const enter = () => void open.push({ templateLines: 0 });
    const leave = (node: FunctionNode) => {
      const { templateLines = 0 } = open.pop() ?? {};
      const lines = lineBreaks(node.range) + 1 - templateLines;
      const outer = open.at(-1);
      if (outer) outer.templateLines += templateLines;
      if (lines <= FUNCTION_LINES_MAX) return;
      context.report({
        node,
        message: `functions have at most ${FUNCTION_LINES_MAX} lines, templates not counted; this one has ${lines}`,
      });
    };
    return {
      FunctionDeclaration: enter,
      FunctionExpression: enter,
      ArrowFunctionExpression: enter,
      "FunctionDeclaration:exit": leave,
      "FunctionExpression:exit": leave,
      "ArrowFunctionExpression:exit": leave,
      TemplateLiteral(node) {
        const inner = open.at(-1);
        if (depth++ === 0 && inner) inner.templateLines += lineBreaks(node.range);
      },
      "TemplateLiteral:exit"() {
        depth--;
      },
    };
  },
};

const noDoubleCast: Deno.lint.Rule = {
  create(context) {
    return {
      TSAsExpression(node) {
        const inner = node.expression;
        if (inner.type === "TSAsExpression" && inner.typeAnnotation.type === "TSUnknownKeyword") {
          context.report({ node, message: "a cast through unknown hides a type error; narrow the value instead" });
        }
      },
    };
  },
};

const plugin: Deno.lint.Plugin = {
  name: "seer",
  rules: {
    "rooms": rooms,
    "packages": packages,
    "gpu-names": gpuNames,
    "clock-free": clockFree,
    "function-length": functionLength,
    "no-double-cast": noDoubleCast,
  },
};

export default plugin;
