/** The horizontal axis, one for all panels: steps or tokens, on a logarithm that has room for 0. */

import type { Report } from "./document";
import { short } from "./format";
import type { Selection } from "./state";

export interface Horizontal {
  /** Place along the axis of a step or a number of tokens. */
  place: (value: number) => number;
  value: (place: number) => number;
  min: number;
  max: number;
  /** Places that are named, with their names. */
  ticks: [number, string][];
  label: string;
}

export function horizontal(report: Report, selection: Selection): Horizontal {
  const values = new Set<number>();
  const shown = report.runs.filter((run) => !selection.runs.length || selection.runs.includes(run.name));
  const steps = new Set(report.steps());
  for (const run of shown) {
    for (const line of run.lines) for (const step of [line.steps[0], line.steps.at(-1)]) if (step !== undefined) steps.add(step);
  }
  for (const run of shown) {
    for (const step of steps) {
      const value = selection.x === "step" ? step : report.tokens(run.name, step);
      if (value !== null) values.add(value);
    }
  }
  return axisOf([...values].sort((a, b) => a - b), selection.x === "step" ? "step" : "tokens");
}

export function axisOf(values: readonly number[], label: string): Horizontal {
  const [low, high] = [values[0] ?? 0, values.at(-1) ?? 1];
  const least = values.find((value) => value > 0) ?? 1;
  const logarithmic = values.length > 2 && high > 10 * least;
  const place = logarithmic ? (value: number) => Math.log1p(value / least) : (value: number) => value;
  const value = logarithmic ? (at: number) => Math.expm1(at) * least : (at: number) => at;
  const [from, to] = [place(low), place(high)];
  const room = (to - from || 1) * 0.02;
  const named = logarithmic ? powers(low, high, least) : evenly(low, high);
  return { place, value, min: from - room, max: to + room, label, ticks: named.map((one) => [place(one), short(one)]) };
}

function powers(low: number, high: number, least: number): number[] {
  const found = low === 0 ? [0] : [];
  const first = Math.floor(Math.log10(Math.max(least, low || least)));
  const last = Math.floor(Math.log10(high));
  const every = Math.max(1, Math.ceil((last - first + 1) / 6));
  for (let power = first; power <= last; power += every) {
    for (const times of last - first < 2 ? [1, 2, 5] : [1]) {
      const one = times * 10 ** power;
      if (one >= Math.max(low, least) && one <= high) found.push(one);
    }
  }
  return found;
}

function evenly(low: number, high: number): number[] {
  if (low === high) return [low];
  const rough = (high - low) / 5;
  const size = 10 ** Math.floor(Math.log10(rough));
  const each = [1, 2, 5, 10].map((times) => times * size).find((one) => one >= rough) ?? rough;
  const found: number[] = [];
  for (let one = Math.ceil(low / each) * each; one <= high + each * 1e-9; one += each) found.push(Number(one.toPrecision(12)));
  return found;
}
