/**
 * How one operand of a tile gets into workgroup memory and back out of it. A fetch of four (or eight) neighbours stays
 * together: along k it becomes vec4f of four steps of one position, along positions vec4f of four positions at one step.
 * Knows no problem and nothing of the other operand.
 */
import { range, unroll } from "../tiles.ts";
import type { GemmOperand } from "./problem.ts";

/** An operand's side of the tile: how it is staged and read back. */
export interface Side {
  readonly name: "left" | "right";
  readonly operand: GemmOperand;
  /** WGSL: first position of the tile. */
  readonly first: string;
  /** Positions of the tile, and of one invocation; invocations side by side, and this one's number among them. */
  readonly span: number;
  readonly each: number;
  readonly threads: number;
  readonly thread: string;
  readonly panel: number;
  /** {@linkcode readTogether}. */
  readonly together: number;
  /** f16 in rows `pitch` fours apart, as matrix units want it; f32 as invocations read it where absent. */
  readonly halves?: { readonly pitch: number };
}

/** Lanes whose 16-byte accesses to workgroup memory NVIDIA's GPUs serve together: 8 · 16 bytes are all 32 banks. */
const SERVED_TOGETHER = 8;

/**
 * vec4f of workgroup memory from one position to the next, where they lie along k: a panel's fours, so that stores are dense;
 * an odd number where lanes served together read so many positions that they would meet in a bank.
 */
function pitchOf({ panel, together }: Pick<Side, "panel" | "together">): number {
  const fours = panel / 4;
  return together * fours <= SERVED_TOGETHER ? fours : fours | 1;
}

/** How many positions lanes that are served together read at once, of `across` invocations side by side. */
export function readTogether(side: "left" | "right", across: number): number {
  return side === "left" ? Math.ceil(SERVED_TOGETHER / across) : Math.min(SERVED_TOGETHER, across);
}

/** vec4f of workgroup memory that one panel of a side takes. */
export function foursStaged(side: Pick<Side, "operand" | "span" | "panel" | "together">): number {
  return side.operand.along === "k" ? side.span * pitchOf(side) : side.panel * side.span / 4;
}

/** WGSL of one invocation's part of the staging. */
export interface Staging {
  /** Declares once where this invocation fetches from and stores to, and the `var`s that hold what is in flight. */
  readonly places: string;
  /** Declares what depends on the panel that starts at that k. */
  steps(start: string): string;
  /** Loads, within the scope of `steps`. */
  readonly fetch: string;
  /** Writes what was fetched to workgroup memory, from the panel's base (`""` or ending in `+ `). */
  store(base: string): string;
}

/** The fetches of one invocation: declared once, then issued and staged panel by panel. */
export function staging(side: Side, invocations: number): Staging {
  const { name, operand, span, panel, threads } = side;
  const { along, length, raw } = operand;
  const inK = along === "k";
  const units = (inK ? panel : span) / length;
  const total = units * (inK ? span : panel);
  const rounds = range(Math.ceil(total / invocations));
  const ragged = total % invocations !== 0;
  const sameUnit = invocations % units === 0;
  const placeOf = (round: number) => `${name}Place${!inK && sameUnit ? 0 : round}`;
  const stepOf = (round: number) => `${name}Step${inK && sameUnit ? 0 : round}`;
  const number = (round: number) => `lane + ${round * invocations}u`;
  const unit = (round: number) => `${name}Unit${round}`;
  const other = (round: number) => `${name}Other${round}`;
  /** Rounds that meet different positions (or steps): one for all where every round has the same units. */
  const different = (of: (round: number) => string) => rounds.filter((round) => of(round).endsWith(`${round}`));
  /** Fetches along k go to slots in order: slot j · threads + t is position 4 · t + j (+ 4 · threads · block). */
  const block = 4 * threads;
  const position = (round: number) => {
    const slot = other(round);
    return `${slot} / ${block}u * ${block}u + ${slot} % ${threads}u * 4u + ${slot} % ${block}u / ${threads}u`;
  };
  const at = (round: number, four: number) =>
    `${other(round)} * ${side.halves?.pitch ?? (inK ? pitchOf(side) : span / 4)}u + ${unit(round)} / 4u + ${four}u`;
  return {
    places: [
      ...rounds.map((round) =>
        `let ${name}Fetch${round} = ${ragged ? `min(${number(round)}, ${total - 1}u)` : number(round)};
let ${unit(round)} = ${name}Fetch${round} % ${units}u * ${length}u;
let ${other(round)} = ${name}Fetch${round} / ${units}u;
${unroll(length / 4, (four) => `let ${name}At${round}_${four} = ${at(round, four)};`)}
var ${name}Raw${round}: ${raw};`
      ),
      ...different(placeOf).map((round) =>
        operand.place(placeOf(round), `(${side.first} + ${inK ? position(round) : unit(round)})`)
      ),
    ].join("\n"),
    steps: (start) =>
      different(stepOf).map((round) => operand.step(stepOf(round), { start, offset: inK ? unit(round) : other(round) }))
        .join("\n"),
    fetch: rounds.map((round) => `${name}Raw${round} = ${operand.fetch(placeOf(round), stepOf(round))};`).join("\n"),
    store: (base) =>
      rounds.map((round) => {
        const value = `${name}Value${round}_`;
        const from = { raw: `${name}Raw${round}`, place: placeOf(round), step: stepOf(round) };
        const stores = unroll(length / 4, (four) => `${name}Tile[${base}${name}At${round}_${four}] = ${value}${four};`);
        const last = ragged && round === rounds.length - 1;
        return `${operand.finish(value, from, side.halves === undefined ? "f32" : "f16")}
${last ? `if (${number(round)} < ${total}u) { ${stores} }` : stores}`;
      }).join("\n"),
  };
}

/** WGSL that reads back what one invocation multiplies, four steps of k at a time. */
export interface Reading {
  /** Loads at step four `quad`, from the panel's base. */
  load(base: string): string;
  /** The value of the invocation's position number `i` at the j-th of the four steps. */
  one(i: number, j: number): string;
  /** vec4f of four positions. */
  four(block: number, j: number): string;
}

/** Invocation t holds positions 4·t … 4·t + 3, and those 4·threads further on. */
export function reading({ name, operand, each, threads, thread, span, panel, together }: Side): Reading {
  if (operand.along === "k") {
    const pitch = pitchOf({ panel, together });
    return {
      load: (base) =>
        unroll(each, (i) => {
          const position = (i % 4) * threads + Math.floor(i / 4) * 4 * threads;
          return `let ${name}${i} = ${name}Tile[${base}${thread} * ${pitch}u + ${position * pitch}u + quad];`;
        }),
      one: (i, j) => `${name}${i}.${"xyzw"[j]}`,
      four: (block, j) => `vec4f(${range(4).map((i) => `${name}${block * 4 + i}.${"xyzw"[j]}`).join(", ")})`,
    };
  }
  return {
    load: (base) =>
      unroll(
        4,
        (j) =>
          unroll(each / 4, (block) =>
            `let ${name}${j}_${block} = ${name}Tile[${base}(quad * 4u + ${j}u) * ${span / 4}u + ${
              block * threads
            }u + ${thread}];`),
      ),
    one: (i, j) => `${name}${j}_${Math.floor(i / 4)}.${"xyzw"[i % 4]}`,
    four: (block, j) => `${name}${j}_${block}`,
  };
}
