/** The panel of one cube: its lines over steps, for each run, and its map beside them. */

import { category, css, ordered } from "./colours";
import { extent, LineChart, MOST_BANDS, type Point, type Trace } from "./chart";
import type { Cube } from "./document";
import { el, isDark, replace } from "./dom";
import { counted, number } from "./format";
import { legend, MapChart } from "./heatmap";
import { Panel, stepAt, stepKeys, tabs, type Context } from "./panel";
import { linesOf, mapOf, mapsOf, nearestIndex, rangeOf, seriesOf, viewOf, xOf, type HeatMap, type MapKind, type Series, type View } from "./series";
import type { Selection } from "./state";

const HEIGHT = 168;
const SHOWN: Record<MapKind, string> = { heads: "heads", sites: "sites", steps: "steps", pairs: "pairs" };

interface Facet {
  run: number | null;
  chart: LineChart;
  traces: Trace[];
}

export class MeasurePanel extends Panel {
  private facets: Facet[] = [];
  private maps: { run: number; chart: MapChart }[] = [];
  private kind: MapKind | null;
  /** Which charts there are; as long as it stays, they are drawn again in place. */
  private layout = "";
  private readonly readout = el("div", { class: "readout" });
  private view: View;

  constructor(context: Context, readonly cube: Cube) {
    super(context, cube.id, `${cube.raw.metric} of ${cube.raw.component}, ${cube.raw.data}`);
    this.kind = mapsOf(cube)[0] ?? null;
    this.view = viewOf(cube, context.state.selection);
  }

  private get selection(): Selection {
    return this.context.state.selection;
  }

  protected draw(): void {
    const { cube, selection } = this;
    this.view = viewOf(cube, selection);
    this.drawHead();
    if (cube.raw.refused) return this.say(`Not on this page: ${cube.raw.refused}.`);
    if (!this.view.runs.length) return this.say("None of the runs selected has this measure.");
    const overlaid = linesOf(cube, selection) === "runs" || this.view.runs.length === 1;
    const runs: (number | null)[] = overlaid ? [null] : this.view.runs;
    const plots = el("div", { class: cube.raw.pairs ? "plots pairs" : "plots", "data-many": runs.length });
    const pairs = cube.raw.pairs !== "";
    const traces = runs.map((run) => (cube.raw.pairs === "layers" ? [] : this.tracesOf(run)));
    const log = cube.raw.about.axis === "log";
    const y = extent(traces.flat(), log);
    const layout = JSON.stringify([runs, pairs ? this.view.runs : this.view.runs.length, this.kind]);
    if (layout === this.layout) {
      // The same charts of other lines: the page is not laid out anew.
      this.facets.forEach((facet, i) => {
        facet.traces = traces[i] ?? [];
        facet.chart.element.parentElement?.setAttribute("aria-label", this.chartLabel(facet.traces));
      });
      return this.drawCharts(log, runs.length > 1 ? y : null);
    }
    this.clear();
    this.layout = layout;
    const shown = (pairs ? this.view.runs : runs).map((run, i) => {
      const room = el("div", { class: "facet" });
      if (runs.length > 1 || (pairs && this.view.runs.length > 1)) room.append(el("div", { class: "caption" }, String(cube.axis("run")[run ?? 0])));
      if (!pairs) this.addChart(room, run, traces[i] ?? []);
      if (this.kind && (pairs || runs.length > 1)) this.addMap(room, run ?? 0);
      return room;
    });
    plots.append(...shown);
    const room = el("div", { class: "instrument" }, plots);
    if (this.kind && !pairs && runs.length === 1) {
      const side = el("div", { class: "side" });
      this.view.runs.forEach((run) => {
        if (this.view.runs.length > 1) side.append(el("div", { class: "caption" }, String(cube.axis("run")[run])));
        this.addMap(side, run);
      });
      room.append(side);
    }
    replace(this.body, room);
    this.drawCharts(log, runs.length > 1 ? y : null);
  }

  private clear(): void {
    for (const facet of this.facets) facet.chart.destroy();
    for (const map of this.maps) map.chart.destroy();
    [this.facets, this.maps, this.layout] = [[], [], ""];
  }

  private drawCharts(log: boolean, y: [number, number] | null): void {
    const { cube } = this;
    for (const facet of this.facets) {
      const drawn = facet.chart.draw({
        label: cube.raw.metric, traces: facet.traces, axis: this.context.axis(), log, bounds: cube.raw.about.bounds ?? null,
        height: HEIGHT, needle: this.needle(facet), choose: (x) => this.choose(facet, x), ...(y ? { y } : {}),
      });
      if (!drawn) facet.chart.element.append(el("p", { class: "nothing" }, this.whyNothing(facet)));
    }
    this.drawMaps();
    this.read();
  }

  private say(text: string): void {
    this.clear();
    replace(this.body, el("p", { class: "nothing" }, text));
    replace(this.readout);
  }

  private drawHead(): void {
    const { raw } = this.cube;
    const { about } = raw;
    const where = [raw.component === "simple" ? "" : raw.component, this.siteName(), this.splitName(), raw.data];
    const notes = [this.view.instead, ...this.notes()].filter((note) => note);
    replace(
      this.head,
      el("h3", {}, raw.metric.replaceAll("_", " ")),
      el("div", { class: "of" }, [...new Set(where.filter((word) => word))].join(" · ")),
      raw.target ? el("div", { class: "of" }, `against ${raw.target}`) : null,
      raw.params ? el("div", { class: "params" }, raw.params) : null,
      this.readout,
      ...notes.map((note) => el("div", { class: "note" }, note)),
      about.definition
        ? el("details", { class: "about" }, el("summary", {}, "definition"), el("p", {}, about.definition),
            about.range ? el("p", {}, `Range: ${about.range}`) : null,
            about.reference ? el("p", {}, about.reference) : null)
        : null,
      raw.refused || raw.pairs === "layers" ? null : this.opener,
    );
  }

  private siteName(): string {
    const site = this.cube.axis("site")[this.view.site];
    return linesOf(this.cube, this.selection) === "sites" || site === this.cube.raw.component ? "" : String(site ?? "");
  }

  private splitName(): string {
    return String(this.cube.axis("split")[this.view.split] ?? "");
  }

  /** What a reader has to know of the values that are drawn. */
  private notes(): string[] {
    const { raw } = this.cube;
    const found: string[] = [];
    const instead = raw.instead[String(this.cube.axis("site")[this.view.site])];
    if (instead) found.push(`drawn: ${instead}, since the biased value has too few samples; the table has both`);
    if (this.cube.axis("head")[this.view.head] !== null && linesOf(this.cube, this.selection) !== "heads") {
      const head = this.cube.axis("head")[this.view.head];
      if (head !== null && head !== undefined) found.push(this.cube.index("head", null) < 0 && this.selection.head === null ? `there is no whole: head ${head} is shown` : `head ${head}`);
    }
    if (linesOf(this.cube, this.selection) === "heads" || linesOf(this.cube, this.selection) === "sites") {
      const layer = this.cube.axis("layer")[this.view.layers[0] ?? 0];
      if (layer !== null && layer !== undefined) found.push(`of layer ${layer}`);
    }
    return found;
  }

  private addChart(room: HTMLElement, run: number | null, traces: Trace[]): void {
    const facet: Facet = { run, chart: new LineChart(), traces };
    const frame = el("div", {
      class: "frame", tabindex: 0, role: "group", "aria-label": this.chartLabel(traces),
    }, facet.chart.element);
    frame.addEventListener("keydown", (event) => stepKeys(this.context, event));
    this.facets.push(facet);
    room.append(frame);
  }

  private chartLabel(traces: readonly Trace[]): string {
    return `${this.cube.raw.metric} over ${this.context.axis().label}, ${counted(traces.length, "line")}: ` +
      "left and right arrows move the step; the values are in the table below";
  }

  private addMap(room: HTMLElement, run: number): void {
    const chart = new MapChart();
    this.maps.push({ run, chart });
    const options = mapsOf(this.cube).map((kind) => [kind, SHOWN[kind]] as const);
    const caption = el("div", { class: "map-head" });
    if (options.length > 1) {
      caption.append(el("span", {}, "layer ×"), tabs("Columns of the map", options, this.kind!, (kind) => {
        this.kind = kind as MapKind;
        this.draw();
      }));
    } else caption.append(el("span", {}, this.mapName()));
    room.append(caption, chart.element);
  }

  private mapName(): string {
    if (this.cube.raw.pairs) return `${this.cube.raw.pairs} × ${this.cube.raw.pairs}`;
    return this.kind ? `layer × ${SHOWN[this.kind]}` : "";
  }

  private drawMaps(): void {
    const maps = this.maps.map(({ run }) => mapOf(this.cube, this.kind!, this.selection, this.view, run));
    const range = rangeOf(this.cube, maps);
    this.maps.forEach(({ chart }, i) => {
      const map = maps[i]!;
      const rows = new Set<number>();
      map.rows.forEach((row, i) => {
        const chosen = map.rowAxis === "layer" ? !this.selection.layers.length || this.selection.layers.includes(Number(row)) : false;
        if (chosen) rows.add(i);
      });
      const column = map.kind === "heads" ? map.columns.indexOf(this.selection.head) : map.kind === "sites" ? this.view.site : -1;
      const step = Number(this.cube.axis("step")[nearestIndex(this.cube, this.selection.step)]);
      const moves = map.columnAxis !== "step" && map.rowAxis !== "step";
      chart.draw({
        cube: this.cube, map, range, rows: map.rowAxis === "step" ? new Set(map.rows.map((_, i) => i)) : rows, column,
        label: `${this.cube.raw.metric}, ${this.mapName()}${moves ? ` at step ${step}` : ""}`,
        choose: (row, at) => this.chooseCell(map, row, at),
      });
      const room = chart.element;
      const said = range.join();
      if (room.dataset["range"] === said) return;
      room.dataset["range"] = said;
      room.querySelector(".legend")?.remove();
      room.append(legend(range));
    });
  }

  private chooseCell(map: HeatMap, row: number, column: number): void {
    const [layer, name] = [map.rows[row], map.columns[column]];
    const part: Partial<Selection> = {};
    if (map.rowAxis === "layer") {
      const same = this.selection.layers.length === 1 && this.selection.layers[0] === layer;
      part.layers = same && map.kind !== "steps" && this.same(map, column) ? [] : [Number(layer)];
      if (!part.layers.length && map.kind === "heads") part.head = null;
      else if (map.kind === "heads") part.head = Number(name);
    } else part.step = Number(layer);
    if (map.kind === "sites") part.site = String(name);
    if (map.columnAxis === "step") part.step = Number(name);
    this.context.state.set(part);
  }

  private same(map: HeatMap, column: number): boolean {
    if (map.kind === "heads") return map.columns[column] === this.selection.head;
    return map.kind === "sites" ? column === this.view.site : true;
  }

  protected move(): void {
    for (const facet of this.facets) facet.chart.move(this.needle(facet));
    this.drawMaps();
    this.read();
  }

  private needle(facet: Facet): number | null {
    const run = String(this.cube.axis("run")[facet.run ?? this.view.runs[0] ?? 0]);
    return xOf(this.context.state.report, this.selection, run, this.selection.step);
  }

  private choose(facet: Facet, x: number): void {
    const run = String(this.cube.axis("run")[facet.run ?? this.view.runs[0] ?? 0]);
    this.context.state.set({ step: stepAt(this.context, run, x) });
  }

  /** The values at the present step, in a line. */
  private read(): void {
    const at = nearestIndex(this.cube, this.selection.step);
    const step = Number(this.cube.axis("step")[at]);
    const values = this.facets.flatMap((facet) => facet.traces.map((trace) => trace.points.find((point) => point.step === step)))
      .filter((point) => point !== undefined && Number.isFinite(point.value)).map((point) => point!.value);
    if (!values.length) return replace(this.readout);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    replace(this.readout, el("b", {}, low === high ? number(low) : `${number(low)} – ${number(high)}`),
      ` at step ${step.toLocaleString("en")}`);
  }

  protected traces(): Trace[] {
    const many = this.facets.length > 1;
    if (this.cube.raw.pairs) return this.cube.raw.pairs === "steps" ? this.tracesOf(null) : [];
    return this.facets.flatMap((facet) => facet.traces.map((trace) =>
      many ? { ...trace, name: `${this.cube.axis("run")[facet.run ?? 0]}, ${trace.name}` } : trace));
  }

  private tracesOf(run: number | null): Trace[] {
    const found = seriesOf(this.cube, this.selection, this.view, run);
    const bands = found.length <= MOST_BANDS;
    return found.map((series) => ({
      name: series.name, colour: colourOf(series), dashed: series.dashed, marks: true, points: this.points(series, bands),
    }));
  }

  private points(series: Series, bands: boolean): Point[] {
    const { cube } = this;
    const [values, low, high, chance] = [cube.values, cube.array("low"), cube.array("high"), cube.array("chance")];
    const found: Point[] = [];
    cube.axis("step").forEach((name, i) => {
      const at = series.start + i * cube.strides.step;
      if (!cube.measured(at)) return;
      const step = Number(name);
      const point: Point = { step, x: xOf(this.context.state.report, this.selection, series.run, step), value: values[at]!, reason: cube.reason(at) };
      if (bands && low && high) [point.low, point.high] = [low[at]!, high[at]!];
      if (bands && chance) point.chance = chance[at]!;
      found.push(point);
    });
    return found;
  }

  private whyNothing(facet: Facet): string {
    const reasons = new Set(facet.traces.flatMap((trace) => trace.points.map((point) => point.reason)).filter((one) => one));
    if (reasons.size) return `Undefined everywhere: ${[...reasons].slice(0, 3).join("; ")}.`;
    if (this.selection.x === "tokens") return "The tokens seen are not known: choose steps for the horizontal axis.";
    return "Nothing was measured of this selection.";
  }
}

function colourOf(series: Series): string {
  if (series.dashed) return isDark() ? "#d8d8d8" : "#333333";
  if (series.kind === "runs" || series.kind === "sites") return category(series.colour, isDark());
  return css(ordered(series.colour, series.colours, isDark()));
}
