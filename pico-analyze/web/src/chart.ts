/** A line chart of one panel: uPlot draws, this says what. One needle marks the present step in every chart. */

import uPlot from "uplot";
import { el, isDark, styled } from "./dom";
import { number, short } from "./format";
import type { Horizontal } from "./horizontal";

export interface Point {
  step: number;
  /** Step or tokens; null where those are not known. */
  x: number | null;
  /** NaN where it is undefined or was not measured. */
  value: number;
  low?: number;
  high?: number;
  chance?: number;
  reason?: string | null;
}

export interface Trace {
  name: string;
  colour: string;
  dashed?: boolean;
  marks?: boolean;
  points: Point[];
}

export interface Chart {
  label: string;
  traces: Trace[];
  axis: Horizontal;
  log?: boolean;
  bounds?: [number, number] | null;
  height: number;
  /** y from here to there, the same for charts side by side. */
  y?: [number, number];
  /** The present step's x. */
  needle: number | null;
  choose: (x: number) => void;
}

const SYNC = "steps";
const Y_AXIS = 54;
/** Most lines whose intervals are drawn: more bands are mud. */
export const MOST_BANDS = 6;

const tip = el("div", { class: "tip", "aria-hidden": "true" });

export function showTip(x: number, y: number, lines: readonly string[]): void {
  if (!tip.isConnected) document.body.append(tip);
  tip.replaceChildren(...lines.map((line) => el("div", {}, line)));
  tip.style.display = "block";
  const [wide, high] = [tip.offsetWidth, tip.offsetHeight];
  tip.style.left = `${Math.max(4, x + 14 + wide > innerWidth ? x - wide - 14 : x + 14)}px`;
  tip.style.top = `${Math.max(4, y + 14 + high > innerHeight ? y - high - 14 : y + 14)}px`;
}

export function hideTip(): void {
  tip.style.display = "none";
}

/** Lowest and highest value with its interval, of those that are finite. */
export function extent(traces: readonly Trace[], log: boolean): [number, number] | null {
  let [low, high] = [Infinity, -Infinity];
  const bands = traces.length <= MOST_BANDS;
  for (const trace of traces) {
    for (const point of trace.points) {
      for (const value of bands ? [point.value, point.low, point.high] : [point.value]) {
        if (value === undefined || !Number.isFinite(value) || (log && value <= 0)) continue;
        if (value < low) low = value;
        if (value > high) high = value;
      }
    }
  }
  return low > high ? null : [low, high];
}

export class LineChart {
  readonly element = el("div", { class: "plot" });
  private plot: uPlot | null = null;
  private readonly needle = el("div", { class: "needle", "aria-hidden": "true" });
  private chart: Chart | null = null;
  private xs: number[] = [];
  private at: Map<number, Point>[] = [];
  /** As it was last laid out: asking for it while the page changes lays the page out once more. */
  private width = 0;
  private readonly sizes = new ResizeObserver(([entry]) => {
    this.width = entry?.contentRect.width ?? 0;
    this.resize();
  });

  constructor() {
    this.sizes.observe(this.element);
    this.element.addEventListener("mouseleave", hideTip);
  }

  /** Draw; false where no value can be drawn. */
  draw(chart: Chart): boolean {
    this.chart = chart;
    this.plot?.destroy();
    this.plot = null;
    this.element.replaceChildren();
    this.element.style.minHeight = `${chart.height}px`;
    const log = chart.log === true && chart.traces.every((trace) => trace.points.every((p) => !(p.value <= 0)));
    const found = chart.y ?? extent(chart.traces, log);
    if (!found) {
      this.element.style.minHeight = "";
      return false;
    }
    const [low, high] = this.range(found, chart.bounds ?? null, log);
    const options = this.options(chart, low, high, log);
    const data = this.data(chart);
    options.series = [{}, ...this.series(chart)];
    options.bands = this.bands(chart);
    this.plot = new uPlot(options, data, this.element);
    this.plot.over.append(this.needle);
    this.plot.over.addEventListener("click", () => {
      const left = this.plot?.cursor.left ?? -1;
      if (left >= 0) chart.choose(chart.axis.value(this.plot!.posToVal(left, "x")));
    });
    return true;
  }

  /** Put the needle at another step. */
  move(x: number | null): void {
    if (!this.plot || !this.chart) return;
    this.chart.needle = x;
    this.needle.style.display = x === null ? "none" : "block";
    if (x !== null) this.needle.style.transform = `translateX(${this.plot.valToPos(this.chart.axis.place(x), "x")}px)`;
  }

  destroy(): void {
    this.sizes.disconnect();
    this.plot?.destroy();
    this.plot = null;
  }

  private resize(): void {
    const { width } = this;
    if (!this.plot || !this.chart || !width || Math.abs(width - this.plot.width) < 1) return;
    this.plot.setSize({ width, height: this.chart.height });
  }

  private range([low, high]: [number, number], bounds: [number, number] | null, log: boolean): [number, number] {
    if (log) return [low / 1.15, high * 1.15];
    const room = (high - low || Math.abs(high) || 1) * 0.07;
    const within = bounds !== null && low >= bounds[0] && high <= bounds[1];
    // A scale that is known is drawn whole where the values fill a third of it; it hides nothing.
    if (within && high - low > (bounds[1] - bounds[0]) / 3) {
      const edge = (bounds[1] - bounds[0]) * 0.03;
      return [bounds[0] - edge, bounds[1] + edge];
    }
    return [low - room, high + room];
  }

  /** Points of all traces on one row of places, as uPlot wants them: null is a gap, undefined is nothing. */
  private data(chart: Chart): uPlot.AlignedData {
    const places = new Set<number>();
    this.at = chart.traces.map((trace) => {
      const found = new Map<number, Point>();
      for (const point of trace.points) {
        if (point.x === null) continue;
        const place = chart.axis.place(point.x);
        places.add(place);
        found.set(place, point);
      }
      return found;
    });
    this.xs = [...places].sort((a, b) => a - b);
    const column = (points: Map<number, Point>, key: "value" | "low" | "high" | "chance"): (number | null | undefined)[] =>
      this.xs.map((x) => {
        const point = points.get(x);
        if (!point) return undefined;
        const value = point[key];
        return value === undefined || !Number.isFinite(value) ? (key === "value" && !point.reason ? undefined : null) : value;
      });
    const columns: (number | null | undefined)[][] = this.at.map((points) => column(points, "value"));
    if (this.drawsBands(chart)) {
      for (const points of this.at) columns.push(column(points, "low"), column(points, "high"), column(points, "chance"));
    }
    return [this.xs, ...columns] as uPlot.AlignedData;
  }

  private drawsBands(chart: Chart): boolean {
    return chart.traces.length <= MOST_BANDS &&
      chart.traces.some((trace) => trace.points.some((p) => Number.isFinite(p.low) || Number.isFinite(p.chance)));
  }

  private series(chart: Chart): uPlot.Series[] {
    const few = chart.traces.length <= 12;
    const found: uPlot.Series[] = chart.traces.map((trace) => ({
      label: trace.name, stroke: trace.colour, width: few ? 1.5 : 1.1,
      ...(trace.dashed ? { dash: [5, 3] } : {}),
      points: { show: this.marks(chart, trace), size: few ? 5 : 3.5, width: 0, fill: trace.colour },
    }));
    if (this.drawsBands(chart)) {
      for (const trace of chart.traces) {
        const edge: uPlot.Series = { stroke: "transparent", width: 0, points: { show: false } };
        found.push(edge, { ...edge }, { stroke: trace.colour, width: 1, dash: [2, 4], points: { show: false } });
      }
    }
    return found;
  }

  /** Marks where there is room for them, and where a line alone would not be seen. */
  private marks(chart: Chart, trace: Trace): boolean {
    if (trace.marks !== true) return false;
    const alone = trace.points.some((point, i) => Number.isFinite(point.value) &&
      ![trace.points[i - 1], trace.points[i + 1]].some((other) => Number.isFinite(other?.value)));
    return alone || (chart.traces.length <= 16 && trace.points.length <= 60);
  }

  private bands(chart: Chart): uPlot.Band[] {
    if (!this.drawsBands(chart)) return [];
    const first = chart.traces.length + 1;
    return chart.traces.map((trace, i) => ({
      series: [first + 3 * i + 1, first + 3 * i] as [number, number], fill: faint(trace.colour),
    }));
  }

  private options(chart: Chart, low: number, high: number, log: boolean): uPlot.Options {
    const [ink, grid] = [styled("--muted"), styled("--grid")];
    const font = `11px ${styled("--sans")}`;
    const common: uPlot.Axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
    return {
      width: Math.max((this.width ||= this.element.clientWidth), 120), height: chart.height, legend: { show: false }, padding: [8, 10, 0, 0],
      series: [{}],
      scales: {
        x: { time: false, range: () => [chart.axis.min, chart.axis.max] },
        y: { range: () => [low, high], distr: log ? 3 : 1 },
      },
      axes: [
        { ...common, size: 24, gap: 3, splits: () => chart.axis.ticks.map(([at]) => at),
          values: () => chart.axis.ticks.map(([, name]) => name) },
        { ...common, size: Y_AXIS, gap: 4, space: chart.height < 120 ? 17 : 26,
          values: (_, splits) => splits.map((value) => (value === null ? "" : Math.abs(value) >= 1e4 ? short(value) : number(Number(value.toPrecision(8))))) },
      ],
      cursor: {
        sync: { key: SYNC, scales: ["x", null] }, drag: { x: false, y: false }, focus: { prox: 1e6 }, y: false,
        points: { size: 7 },
      },
      focus: { alpha: chart.traces.length > 1 ? 0.25 : 1 },
      hooks: { setCursor: [(plot) => this.hover(plot)], draw: [() => this.move(this.chart?.needle ?? null)] },
    };
  }

  private focused = -1;

  private hover(plot: uPlot): void {
    const event = plot.cursor.event;
    const at = plot.cursor.idx;
    if (!event || !this.element.contains(event.target as Node) || at === null || at === undefined || !this.chart) return;
    if ((plot.cursor.left ?? -1) < 0) return;
    this.focused = -1;
    let best = Infinity;
    const top = plot.cursor.top ?? 0;
    this.at.forEach((points, i) => {
      const point = points.get(this.xs[at]!);
      if (!point || !Number.isFinite(point.value)) return;
      const away = Math.abs(plot.valToPos(point.value, "y") - top);
      if (away < best) [best, this.focused] = [away, i];
    });
    const lost = this.at.findIndex((points) => points.get(this.xs[at]!)?.reason);
    const index = this.focused >= 0 ? this.focused : lost;
    const trace = this.chart.traces[index];
    const point = this.at[index]?.get(this.xs[at]!);
    if (!trace || !point) return hideTip();
    showTip(event.clientX, event.clientY, described(trace.name, point, this.chart.axis.label));
  }
}

export function described(name: string, point: Point, label: string): string[] {
  const lines = [name || "value", `step ${point.step.toLocaleString("en")}`];
  if (label === "tokens" && point.x !== null) lines[1] += ` · ${short(point.x)} tokens`;
  if (!Number.isFinite(point.value)) return [...lines, point.reason ? `undefined: ${point.reason}` : "not measured"];
  lines.push(number(point.value));
  if (Number.isFinite(point.low)) lines[2] += `  [${number(point.low!)}, ${number(point.high!)}]`;
  if (Number.isFinite(point.chance)) lines.push(`by chance ${number(point.chance!)}`);
  return lines;
}

function faint(text: string): string {
  const part = isDark() ? 0.22 : 0.15;
  if (text.startsWith("rgb(")) return text.replace(/\)$/, ` / ${part})`);
  return `${text}${Math.round(part * 255).toString(16).padStart(2, "0")}`;
}
