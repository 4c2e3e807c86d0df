/**
 * What is selected, the same for every panel; and its place in the address, so that a view can be cited.
 * A selection names things by what they are called, never by where they stand: it means the same after new rows came.
 */

import type { Name, Report } from "./document";

export type Lines = "layers" | "heads" | "sites" | "runs";
export type X = "step" | "tokens";

export interface Selection {
  /** Runs that are shown; empty for all. */
  runs: string[];
  site: string | null;
  split: string | null;
  /** Layers that are shown; empty for all. */
  layers: number[];
  /** The head that is shown; null for the whole. */
  head: number | null;
  step: number;
  x: X;
  /** What the lines of a panel are. */
  lines: Lines;
  /** The panel that was come for. */
  metric: string | null;
}

const LINES: readonly Lines[] = ["layers", "heads", "sites", "runs"];

export function initial(report: Report): Selection {
  const steps = report.steps();
  return {
    runs: [], site: null, split: null, layers: [], head: null, step: steps.at(-1) ?? 0, x: "step", lines: "layers",
    metric: null,
  };
}

/** ``0-3,7`` for 0, 1, 2, 3, 7. */
export function ranges(numbers: readonly number[]): string {
  const sorted = [...new Set(numbers)].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let last = i;
    while (last + 1 < sorted.length && sorted[last + 1] === sorted[last]! + 1) last++;
    parts.push(last > i ? `${sorted[i]}-${sorted[last]}` : String(sorted[i]));
    i = last + 1;
  }
  return parts.join(",");
}

export function unranged(text: string): number[] {
  const found: number[] = [];
  for (const part of text.split(",")) {
    const match = /^(\d{1,8})(?:-(\d{1,8}))?$/.exec(part.trim());
    if (!match) continue;
    const [from, to] = [Number(match[1]), Number(match[2] ?? match[1])];
    for (let i = from; i <= Math.min(to, from + 10_000); i++) found.push(i);
  }
  return found;
}

/** The address's hash of a selection, without its #: what is as it was at first is left out. */
export function hashOf(selection: Selection, report: Report): string {
  const first = initial(report);
  const words = new URLSearchParams();
  for (const run of selection.runs) words.append("run", run);
  if (selection.metric !== null) words.set("metric", selection.metric);
  if (selection.site !== null) words.set("site", selection.site);
  if (selection.split !== null) words.set("split", selection.split);
  if (selection.layers.length) words.set("layer", ranges(selection.layers));
  if (selection.head !== null) words.set("head", String(selection.head));
  if (selection.lines !== first.lines) words.set("lines", selection.lines);
  if (selection.x !== first.x) words.set("x", selection.x);
  if (selection.step !== first.step) words.set("step", String(selection.step));
  return words.toString();
}

/** The selection of a hash; what names nothing that is there is as it was at first. */
export function selectionOf(hash: string, report: Report): Selection {
  const words = new URLSearchParams(hash.replace(/^#/, ""));
  const found = initial(report);
  const one = (names: Name[], text: string | null): string | null =>
    text !== null && names.some((name) => String(name) === text) ? text : null;
  const runs = report.runs.map((run) => run.name);
  found.runs = words.getAll("run").filter((name) => runs.includes(name));
  const metric = words.get("metric");
  found.metric = report.cubes.some((cube) => cube.id === metric || cube.raw.metric === metric) ? metric : null;
  found.site = one(report.names("site"), words.get("site"));
  found.split = one(report.names("split"), words.get("split"));
  const layers = report.names("layer");
  found.layers = unranged(words.get("layer") ?? "").filter((layer) => layers.includes(layer));
  const head = words.get("head");
  if (head !== null && /^\d+$/.test(head) && report.names("head").includes(Number(head))) found.head = Number(head);
  const lines = words.get("lines") as Lines;
  if (LINES.includes(lines)) found.lines = lines;
  if (words.get("x") === "tokens") found.x = "tokens";
  const step = words.get("step");
  if (step !== null && /^\d+$/.test(step)) found.step = nearest(report.steps(), Number(step));
  return found;
}

/** The step nearest to a number. */
export function nearest(steps: readonly number[], wanted: number): number {
  return steps.reduce((best, step) => (Math.abs(step - wanted) < Math.abs(best - wanted) ? step : best), steps[0] ?? 0);
}

export type Changed = ReadonlySet<keyof Selection>;
export type Listener = (selection: Selection, changed: Changed) => void;

/** The selection, and who is told when it changes. */
export class State {
  private readonly listeners: Listener[] = [];
  selection: Selection;

  constructor(public report: Report, hash: string) {
    this.selection = selectionOf(hash, report);
  }

  listen(listener: Listener): void {
    this.listeners.push(listener);
  }

  set(part: Partial<Selection>): void {
    const changed = new Set<keyof Selection>();
    for (const key of Object.keys(part) as (keyof Selection)[]) {
      if (JSON.stringify(part[key]) !== JSON.stringify(this.selection[key])) changed.add(key);
    }
    if (!changed.size) return;
    this.selection = { ...this.selection, ...part };
    for (const listener of this.listeners) listener(this.selection, changed);
  }
}
