/** Rows of all cubes as the table shows them: which there are, which a filter keeps, in what order. Nothing here draws. */

import { AXES, type Axis, type Cube, type Name, type Report } from "./document";
import { exact } from "./format";

/** One row: the number of its cube, and its place there, kept apart so that a million are two arrays. */
export interface Rows {
  cube: Uint16Array;
  at: Int32Array;
}

export const COLUMNS = [
  "run", "metric", "params", "component", "data", "split", "site", "layer", "head", "step", "target", "value", "drawn", "low", "high", "chance", "reason",
] as const;
export type Column = (typeof COLUMNS)[number];
const NUMBERS: ReadonlySet<Column> = new Set(["layer", "head", "step", "value", "drawn", "low", "high", "chance"]);
const ON_AXIS: ReadonlySet<string> = new Set(AXES);

export function isNumber(column: Column): boolean {
  return NUMBERS.has(column);
}

/** What stands in a cell: the table's own value where another is drawn. */
export function cell(cube: Cube, at: number, column: Column): Name {
  switch (column) {
    case "metric": case "component": case "data": case "params":
      return cube.raw[column];
    case "target": {
      const name = cube.axis("target")[at % cube.axis("target").length];
      return name === null || name === undefined ? cube.raw.target : name;
    }
    case "value":
      return (cube.array("table") ?? cube.values)[at] ?? NaN;
    case "drawn":
      return cube.array("table") ? (cube.values[at] ?? NaN) : null;
    case "low": case "high": case "chance":
      return cube.array(column)?.[at] ?? null;
    case "reason":
      return cube.reason(at);
    default: {
      const names = cube.axis(column);
      return names[Math.floor(at / cube.strides[column]) % names.length] ?? null;
    }
  }
}

interface Term {
  column: Column | null;
  compare: ":" | "=" | "<" | ">" | "<=" | ">=";
  text: string;
}

/** ``cka layer=3 step>100 value<0.5 site:attn``: every word has to hold; one alone is looked for in all texts. */
export function terms(filter: string): Term[] {
  return filter.trim().split(/\s+/).filter((word) => word).map((word) => {
    const match = /^([a-z]+)(:|<=|>=|=|<|>)(.+)$/i.exec(word);
    const column = match && (COLUMNS as readonly string[]).includes(match[1]!.toLowerCase()) ? (match[1]!.toLowerCase() as Column) : null;
    if (match && column) return { column, compare: match[2] as Term["compare"], text: match[3]!.toLowerCase() };
    return { column: null, compare: ":", text: word.toLowerCase() };
  });
}

function holds(name: Name, term: Term): boolean {
  if (term.compare === ":") return name !== null && String(name).toLowerCase().includes(term.text);
  if (term.compare === "=") {
    const wanted = term.text === "none" || term.text === "whole" ? null : term.text;
    return wanted === null ? name === null : name !== null && (String(name).toLowerCase() === wanted || (wanted !== "" && Number(name) === Number(wanted)));
  }
  const [value, bound] = [typeof name === "number" ? name : NaN, Number(term.text)];
  switch (term.compare) {
    case "<": return value < bound;
    case ">": return value > bound;
    case "<=": return value <= bound;
    default: return value >= bound;
  }
}

/** Which rows hold every term. Axes are looked at once each, rows only by numbers. */
export function filtered(report: Report, filter: string): Rows {
  const wanted = terms(filter);
  const [cubes, places]: [number[], number[]] = [[], []];
  report.cubes.forEach((cube, number) => {
    if (!cube.length || cube.raw.refused) return;
    const masks: Map<Axis, Uint8Array>[] = [];
    const direct: Term[] = [];
    for (const term of wanted) {
      if (term.column !== null && ["value", "drawn", "low", "high", "chance", "reason"].includes(term.column)) {
        direct.push(term);
        continue;
      }
      const texts = (["metric", "params", "component", "data"] as const).filter((column) => term.column === null || term.column === column);
      if (texts.some((column) => holds(cube.raw[column], term))) continue;
      const mask = new Map<Axis, Uint8Array>();
      for (const axis of AXES) {
        if (term.column === null ? !["run", "split", "site"].includes(axis) : term.column !== axis) continue;
        mask.set(axis, Uint8Array.from(cube.axis(axis), (name) => Number(holds(name, term))));
      }
      masks.push(mask);
    }
    for (let at = 0; at < cube.length; at++) {
      if (!cube.measured(at)) continue;
      const kept = masks.every((mask) => {
        for (const [axis, on] of mask) if (on[Math.floor(at / cube.strides[axis]) % on.length]) return true;
        return false;
      });
      if (!kept || !direct.every((term) => holds(cell(cube, at, term.column!), term))) continue;
      cubes.push(number);
      places.push(at);
    }
  });
  return { cube: Uint16Array.from(cubes), at: Int32Array.from(places) };
}

/** The order of rows by a column; what is missing or undefined comes last either way. */
export function sorted(report: Report, rows: Rows, column: Column | null, descending: boolean): Uint32Array {
  const order = Uint32Array.from(rows.at, (_, i) => i);
  if (column === null) return order;
  const sign = descending ? -1 : 1;
  if (isNumber(column)) {
    const keys = Float64Array.from(order, (i) => {
      const value = cell(report.cubes[rows.cube[i]!]!, rows.at[i]!, column);
      return typeof value === "number" ? value : NaN;
    });
    return order.sort((a, b) => {
      const [x, y] = [keys[a]!, keys[b]!];
      if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
      return sign * (x - y) || a - b;
    });
  }
  const keys = Array.from(order, (i) => String(cell(report.cubes[rows.cube[i]!]!, rows.at[i]!, column) ?? ""));
  return order.sort((a, b) => {
    if (!keys[a] || !keys[b]) return Number(!keys[a]) - Number(!keys[b]) || a - b;
    return sign * (keys[a]! < keys[b]! ? -1 : keys[a]! > keys[b]! ? 1 : 0) || a - b;
  });
}

/** Columns that any cube has something in. */
export function columnsOf(report: Report): Column[] {
  return COLUMNS.filter((column) => {
    if (column === "value") return true;
    if (column === "drawn") return report.cubes.some((cube) => "table" in cube.raw.arrays);
    if (column === "low" || column === "high" || column === "chance") return report.cubes.some((cube) => column in cube.raw.arrays);
    if (column === "reason") return report.cubes.some((cube) => cube.raw.codes !== null);
    if (column === "target") return report.cubes.some((cube) => cube.raw.target !== "");
    if (ON_AXIS.has(column)) return report.cubes.some((cube) => cube.axis(column as Axis).some((name) => name !== null));
    return report.cubes.some((cube) => cube.raw[column as "metric" | "params" | "component" | "data"] !== "");
  });
}

/** A cell of a CSV: quoted where it has to be; what a spreadsheet would run as a formula is text. */
export function quoted(value: Name): string {
  if (value === null) return "";
  if (typeof value === "number") return exact(value);
  const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

export function csv(report: Report, rows: Rows, order: Uint32Array, columns: readonly Column[]): string {
  const lines = [columns.join(",")];
  for (const i of order) {
    const cube = report.cubes[rows.cube[i]!]!;
    lines.push(columns.map((column) => quoted(cell(cube, rows.at[i]!, column))).join(","));
  }
  return `${lines.join("\n")}\n`;
}
