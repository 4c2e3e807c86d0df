/**
 * The document that Python wrote (`output/report/document.py`), and its cubes with their arrays unpacked when they are
 * first looked at. Nothing here draws.
 */

export type Axis = "run" | "split" | "site" | "layer" | "head" | "step" | "target";
export const AXES: readonly Axis[] = ["run", "split", "site", "layer", "head", "step", "target"];
export type Name = string | number | null;

export interface Finding {
  text: string;
  caveat: string;
  selection: Record<string, string | number>;
}

export interface About {
  definition?: string;
  range?: string;
  best?: string;
  reference?: string;
  bounds?: [number, number] | null;
  axis?: "linear" | "log";
}

export interface RawCube {
  metric: string;
  component: string;
  data: string;
  params: string;
  axes: Record<Axis, Name[]>;
  arrays: Record<string, string>;
  reasons: string[];
  codes: string | null;
  target: string;
  pairs: "" | "steps" | "layers";
  instead: Record<string, string>;
  about: About;
  refused: string;
}

export interface RawLine {
  panel: string;
  unit: string;
  name: string;
  marks: boolean;
  thinned: number;
  steps: number[];
  values: number[];
}

export interface RawBatch {
  step: number | null;
  split: string;
  ids: string;
  shape: [number, number];
  sources: string[];
  n_rows: number;
  n_tokens: number;
}

export interface Run {
  name: string;
  location: string;
  kind: string;
  facts: [string, [string, string][]][];
  config: [string, string][];
  warnings: string[];
  checkpoints: { step: number; tokens: number | null; size: string; captures: string[]; digest: string }[];
  lines: RawLine[];
  batches: { texts: Record<string, string>; batches: RawBatch[]; losses: Record<string, string> } | null;
  commands: string[];
  provenance: [string, string][];
  tokens: [number[], number[]];
}

export interface Document {
  format: number;
  version: string;
  title: string;
  command: string;
  study: string;
  notes: string[];
  findings: Finding[];
  runs: Run[];
  cubes: RawCube[];
}

export function bytes(text: string): Uint8Array {
  const letters = atob(text);
  const found = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) found[i] = letters.charCodeAt(i);
  return found;
}

export function floats(text: string): Float32Array {
  return new Float32Array(bytes(text).buffer);
}

export function integers(text: string): Int32Array {
  return new Int32Array(bytes(text).buffer);
}

/** One question's values: where a place lies in the arrays, and what stands there. */
export class Cube {
  readonly strides: Record<Axis, number>;
  readonly length: number;
  /** What tells it from the others, short enough for an address. */
  readonly id: string;
  private readonly unpacked = new Map<string, Float32Array>();
  private unpackedCodes: Uint8Array | null | undefined;

  constructor(readonly raw: RawCube) {
    const strides = {} as Record<Axis, number>;
    let stride = 1;
    for (const axis of [...AXES].reverse()) {
      strides[axis] = stride;
      stride *= raw.axes[axis].length;
    }
    this.strides = strides;
    this.length = stride;
    const params = raw.params ? `[${raw.params}]` : "";
    const target = raw.target && raw.pairs ? `:${raw.pairs}` : "";
    this.id = `${raw.metric}${params}:${raw.component}:${raw.data}${target}`;
  }

  axis(name: Axis): Name[] {
    return this.raw.axes[name];
  }

  /** Where a name stands on an axis; -1 where it does not. */
  index(axis: Axis, name: Name): number {
    return this.raw.axes[axis].indexOf(name);
  }

  array(name: string): Float32Array | null {
    const text = this.raw.arrays[name];
    if (text === undefined) return null;
    let found = this.unpacked.get(name);
    if (!found) this.unpacked.set(name, (found = floats(text)));
    return found;
  }

  /** The values as they are drawn. */
  get values(): Float32Array {
    return this.array("value") ?? new Float32Array(0);
  }

  get codes(): Uint8Array | null {
    if (this.unpackedCodes === undefined) {
      this.unpackedCodes = this.raw.codes === null ? null : bytes(this.raw.codes);
    }
    return this.unpackedCodes;
  }

  /** Why there is no value at a place; null where there is one, or where nothing was measured. */
  reason(at: number): string | null {
    const code = this.codes?.[at] ?? 0;
    return code ? (this.raw.reasons[code - 1] ?? null) : null;
  }

  /** Whether something was measured at a place, be it undefined. */
  measured(at: number): boolean {
    return !Number.isNaN(this.values[at]) || (this.codes?.[at] ?? 0) > 0;
  }

  /** The name of each axis at a place. */
  place(at: number): Record<Axis, Name> {
    const found = {} as Record<Axis, Name>;
    for (const axis of AXES) {
      const names = this.raw.axes[axis];
      found[axis] = names[Math.floor(at / this.strides[axis]) % names.length] ?? null;
    }
    return found;
  }
}

export class Report {
  readonly cubes: Cube[];

  constructor(readonly document: Document) {
    this.cubes = document.cubes.map((raw) => new Cube(raw));
    const seen = new Map<string, number>();
    for (const cube of this.cubes) {
      // Two questions may differ in what they compare with alone.
      const times = (seen.get(cube.id) ?? 0) + 1;
      seen.set(cube.id, times);
      if (times > 1) (cube as { id: string }).id = `${cube.id}:${times}`;
    }
  }

  get runs(): Run[] {
    return this.document.runs;
  }

  /** Every step that anything is known of, ascending. */
  steps(): number[] {
    const found = new Set<number>();
    for (const cube of this.cubes) for (const step of cube.axis("step")) if (step !== null) found.add(Number(step));
    if (!found.size) for (const run of this.runs) for (const one of run.checkpoints) found.add(one.step);
    if (!found.size) for (const run of this.runs) for (const line of run.lines) line.steps.forEach((s) => found.add(s));
    return [...found].sort((a, b) => a - b);
  }

  /** Names along an axis over all cubes, in the order in which they first come; numbers by size. */
  names(axis: Axis): Name[] {
    const found = new Set<Name>();
    for (const cube of this.cubes) for (const name of cube.axis(axis)) found.add(name);
    const all = [...found];
    return axis === "layer" || axis === "head" ? all.sort((a, b) => Number(a ?? -1) - Number(b ?? -1)) : all;
  }

  /** Tokens seen at a step of a run; between checkpoints by their share of the way, as a step takes the same each. */
  tokens(run: string, step: number): number | null {
    const known = this.runs.find((one) => one.name === run)?.tokens;
    if (!known || !known[0].length) return null;
    const [steps, tokens] = known;
    const after = steps.findIndex((one) => one >= step);
    if (after >= 0 && steps[after] === step) return tokens[after] ?? null;
    if (after <= 0) return null;
    const [a, b] = [steps[after - 1]!, steps[after]!];
    return tokens[after - 1]! + ((step - a) / (b - a)) * (tokens[after]! - tokens[after - 1]!);
  }
}
