/** The lines and the map of one cube under a selection: which places of its arrays they are. Nothing here draws. */

import type { Axis, Cube, Name, Report } from "./document";
import { named } from "./format";
import type { Lines, Selection } from "./state";

/** Where a selection lies on the axes of a cube that has not all of it. */
export interface View {
  runs: number[];
  site: number;
  split: number;
  layers: number[];
  head: number;
  /** What is shown in place of what was asked for, in words; empty where all of it is there. */
  instead: string;
}

export interface Series {
  name: string;
  /** Place among those that have an order, or among runs. */
  colour: number;
  colours: number;
  kind: Lines;
  run: string;
  layer: Name;
  head: Name;
  site: Name;
  split: Name;
  /** Place in the arrays of the first step. */
  start: number;
  dashed: boolean;
}

export type MapKind = "heads" | "sites" | "steps" | "pairs";

export interface HeatMap {
  kind: MapKind;
  rows: Name[];
  columns: Name[];
  rowAxis: Axis;
  columnAxis: Axis;
  /** Place in the arrays of each cell, row by row. */
  at: Int32Array;
  /** The column of the present step, where columns are steps. */
  present: number;
}

export function viewOf(cube: Cube, selection: Selection): View {
  const notes: string[] = [];
  const pick = (axis: "site" | "split", wanted: string | null): number => {
    if (wanted === null) return axis === "split" ? Math.max(cube.index("split", "val"), 0) : 0;
    const at = cube.index(axis, wanted);
    if (at < 0 && cube.axis(axis).some((name) => name !== null)) {
      const [there] = cube.axis(axis);
      if (cube.axis(axis).length > 1 || axis === "split") notes.push(`${wanted} was not measured: ${there} is shown`);
    }
    return Math.max(at, 0);
  };
  const [site, split] = [pick("site", selection.site), pick("split", selection.split)];
  const wanted = selection.layers.map((layer) => cube.index("layer", layer)).filter((at) => at >= 0);
  const all = cube.axis("layer").map((_, i) => i);
  const layers = wanted.length ? wanted : all;
  if (selection.layers.length && !wanted.length && cube.axis("layer").some((layer) => layer !== null)) {
    notes.push("these layers were not measured: all are shown");
  }
  let head = cube.index("head", selection.head);
  if (head < 0) {
    head = Math.max(cube.index("head", null), 0);
    if (selection.head !== null && cube.axis("head").length > 1) notes.push(`no head ${selection.head}`);
  }
  const chosen = selection.runs.map((run) => cube.index("run", run)).filter((at) => at >= 0);
  const runs = selection.runs.length ? chosen : cube.axis("run").map((_, i) => i);
  return { runs, site, split, layers, head, instead: notes.join("; ") };
}

function at(cube: Cube, place: Partial<Record<Axis, number>>): number {
  let found = 0;
  for (const axis of Object.keys(place) as Axis[]) found += place[axis]! * cube.strides[axis];
  return found;
}

/** Whether any step of a line was measured. */
export function hasRows(cube: Cube, start: number): boolean {
  for (let i = 0; i < cube.axis("step").length; i++) if (cube.measured(start + i * cube.strides.step)) return true;
  return false;
}

/** Heads, where that is what lines are, and the cube has some; else layers. */
export function linesOf(cube: Cube, selection: Selection): Lines {
  if (selection.lines === "heads" && !cube.axis("head").some((head) => head !== null)) return "layers";
  if (selection.lines === "sites" && cube.axis("site").length < 2) return "layers";
  return selection.lines;
}

/**
 * The lines of a panel, for one run, or for all where lines are runs.
 * Layers: of the head and site selected. Heads, sites: of the first layer selected, the whole dashed.
 */
export function seriesOf(cube: Cube, selection: Selection, view: View, run: number | null): Series[] {
  const kind = linesOf(cube, selection);
  const target = Math.max(cube.axis("target").length - 1, 0);
  const found: Series[] = [];
  const add = (r: number, site: number, layer: number, head: number, colour: number, colours: number, name: string) => {
    const start = at(cube, { run: r, split: view.split, site, layer, head, target });
    if (!hasRows(cube, start)) return;
    found.push({
      name, colour, colours, kind, start, dashed: kind === "heads" && cube.axis("head")[head] === null,
      run: String(cube.axis("run")[r]), layer: cube.axis("layer")[layer] ?? null,
      head: cube.axis("head")[head] ?? null, site: cube.axis("site")[site] ?? null,
      split: cube.axis("split")[view.split] ?? null,
    });
  };
  const layers = cube.axis("layer");
  const last = Math.max(layers.length - 1, 0);
  const [first] = view.layers;
  if (kind === "runs") {
    for (const r of view.runs) {
      for (const layer of view.layers) {
        const name = String(cube.axis("run")[r]);
        const more = view.layers.length > 1 ? `, ${named("layer", layers[layer] ?? null)}` : "";
        add(r, view.site, layer, view.head, r, cube.axis("run").length, name + more);
      }
    }
    return found;
  }
  const r = run ?? view.runs[0];
  if (r === undefined || first === undefined) return found;
  if (kind === "heads") {
    cube.axis("head").forEach((head, i) => {
      const many = cube.axis("head").filter((one) => one !== null).length;
      add(r, view.site, first, i, head === null ? 0 : Number(head), many, named("head", head));
    });
  } else if (kind === "sites") {
    const many = cube.axis("site").length;
    cube.axis("site").forEach((site, i) => add(r, i, first, view.head, i, many, String(site)));
  } else {
    for (const layer of view.layers) {
      add(r, view.site, layer, view.head, layer, last + 1, named("layer", layers[layer] ?? null));
    }
    if (!found.length && view.head === cube.index("head", null)) {
      // A component of heads alone has no whole: its heads are the lines.
      return cube.axis("head").length > 1 ? seriesOf(cube, { ...selection, lines: "heads" }, view, run) : found;
    }
  }
  return found;
}

/** The maps that a cube has: layer × head, layer × site, layer × step; or all pairs. */
export function mapsOf(cube: Cube): MapKind[] {
  if (cube.raw.pairs) return ["pairs"];
  const found: MapKind[] = [];
  if (cube.axis("head").filter((head) => head !== null).length > 1) found.push("heads");
  if (cube.axis("site").length > 1 && cube.axis("layer").length > 1) found.push("sites");
  if (cube.axis("step").length > 1 && cube.axis("layer").length > 1) found.push("steps");
  return found;
}

export function mapOf(cube: Cube, kind: MapKind, selection: Selection, view: View, run: number): HeatMap {
  const step = nearestIndex(cube, selection.step);
  const target = Math.max(cube.axis("target").length - 1, 0);
  const [first] = view.layers;
  const base = { run, split: view.split, site: view.site, layer: first ?? 0, head: view.head, step, target };
  let [rowAxis, columnAxis]: [Axis, Axis] = ["layer", "step"];
  if (kind === "heads") columnAxis = "head";
  else if (kind === "sites") columnAxis = "site";
  else if (kind === "pairs") [rowAxis, columnAxis] = cube.raw.pairs === "layers" ? ["layer", "target"] : ["step", "target"];
  const keep = (axis: Axis): number[] =>
    cube.axis(axis).map((_, i) => i).filter((i) => !((axis === "head" || axis === "layer") && cube.axis(axis)[i] === null));
  const [rows, columns] = [keep(rowAxis), keep(columnAxis)];
  const found = new Int32Array(rows.length * columns.length);
  rows.forEach((row, i) => {
    columns.forEach((column, j) => {
      found[i * columns.length + j] = at(cube, { ...base, [rowAxis]: row, [columnAxis]: column });
    });
  });
  return {
    kind, rowAxis, columnAxis, at: found, present: columnAxis === "step" ? step : -1,
    rows: rows.map((row) => cube.axis(rowAxis)[row] ?? null),
    columns: columns.map((column) => cube.axis(columnAxis)[column] ?? null),
  };
}

/** Where the last step at or before a step stands; of a cube that begins later, its first. */
export function nearestIndex(cube: Cube, step: number): number {
  let found = 0;
  cube.axis("step").forEach((one, i) => {
    if (Number(one) <= step) found = i;
  });
  return found;
}

/** Lowest and highest value of the colours of maps side by side: over all steps, so that a colour means the same while
 * steps go by. */
export function rangeOf(cube: Cube, maps: readonly HeatMap[]): [number, number] {
  const bounds = cube.raw.about.bounds;
  let [low, high] = [Infinity, -Infinity];
  const look = (value: number): void => {
    if (!Number.isFinite(value)) return;
    if (value < low) low = value;
    if (value > high) high = value;
  };
  const values = cube.values;
  const step = cube.strides.step;
  const many = cube.axis("step").length;
  for (const map of maps) {
    const moving = map.rowAxis !== "step" && map.columnAxis !== "step";
    for (const place of map.at) {
      if (!moving) look(values[place]!);
      const start = place - (Math.floor(place / step) % many) * step;
      for (let i = 0; moving && i < many; i++) look(values[start + i * step]!);
    }
  }
  if (low > high) return [0, 1];
  if (bounds && low >= bounds[0] && high <= bounds[1]) return [bounds[0], bounds[1]];
  return low === high ? [low - Math.abs(low) * 0.05 - 1e-12, high + Math.abs(high) * 0.05 + 1e-12] : [low, high];
}

/** Where a step lies along x. */
export function xOf(report: Report, selection: Selection, run: string, step: number): number | null {
  return selection.x === "step" ? step : report.tokens(run, step);
}
