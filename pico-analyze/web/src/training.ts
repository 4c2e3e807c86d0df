/** Panels of what a run logged: loss, learning rate, gradient norm, and results of evaluation. */

import { category } from "./colours";
import { LineChart, type Trace } from "./chart";
import type { Report } from "./document";
import { el, isDark, replace } from "./dom";
import { number } from "./format";
import { Panel, stepAt, stepKeys, type Context } from "./panel";
import { xOf } from "./series";

/** The loss is what everything is read against; the others are glanced at. */
const [HEIGHT, LOW] = [150, 100];

/** Names of the panels that any run has lines for, in the order in which they come; apart, those of parts of tasks. */
export function panelsOf(report: Report): { main: string[]; parts: string[] } {
  const names = [...new Set(report.runs.flatMap((run) => run.lines.map((line) => line.panel)))];
  return { main: names.filter((name) => !name.includes("/")), parts: names.filter((name) => name.includes("/")) };
}

export class TrainingPanel extends Panel {
  private chart = new LineChart();
  private readonly readout = el("div", { class: "readout" });

  constructor(context: Context, private readonly panel: string) {
    super(context, `training:${panel}`, panel);
    if (panel !== "loss") this.element.classList.add("low");
  }

  protected draw(): void {
    this.chart.destroy();
    this.chart = new LineChart();
    const { selection, report } = this.context.state;
    const lines = this.lines();
    const [first] = lines;
    const thinned = Math.max(0, ...lines.map(({ line }) => line.thinned));
    replace(
      this.head, el("h3", {}, this.panel), first?.line.unit ? el("div", { class: "of" }, first.line.unit) : null, this.readout,
      this.key(), thinned ? el("div", { class: "note" }, `of ${thinned.toLocaleString("en")} logged values, peaks and dips are kept`) : null,
      this.opener,
    );
    if (!lines.length) return replace(this.body, el("p", { class: "nothing" }, "The runs selected logged none."));
    const label = `${this.panel} over ${this.context.axis().label}: left and right arrows move the step; the values are in the table below`;
    const frame = el("div", { class: "frame", tabindex: 0, role: "group", "aria-label": label }, this.chart.element);
    frame.addEventListener("keydown", (event) => stepKeys(this.context, event));
    replace(this.body, el("div", { class: "instrument" }, el("div", { class: "plots" }, frame), el("div", { class: "side" })));
    const run = lines[0]!.run;
    const drawn = this.chart.draw({
      label: this.panel, traces: this.traces(), axis: this.context.axis(), height: this.panel === "loss" ? HEIGHT : LOW,
      needle: xOf(report, selection, run, selection.step), choose: (x) => this.context.state.set({ step: stepAt(this.context, run, x) }),
    });
    if (!drawn) {
      this.chart.element.append(el("p", { class: "nothing" }, selection.x === "tokens"
        ? "The tokens seen are not known: choose steps for the horizontal axis." : "No value is a number."));
    }
    this.read();
  }

  /** Which line is which: the name of its colour. */
  private key(): HTMLElement | null {
    const traces = this.traces();
    if (traces.length < 2) return null;
    const room = el("ul", { class: "key" });
    for (const trace of traces) {
      const mark = el("i", { "aria-hidden": "true" });
      mark.style.borderTop = `2px ${trace.dashed ? "dashed" : "solid"} ${trace.colour}`;
      room.append(el("li", {}, mark, trace.name));
    }
    return room;
  }

  private lines(): { run: string; line: Report["runs"][number]["lines"][number] }[] {
    const { selection, report } = this.context.state;
    return report.runs.filter((run) => !selection.runs.length || selection.runs.includes(run.name))
      .flatMap((run) => run.lines.filter((line) => line.panel === this.panel).map((line) => ({ run: run.name, line })));
  }

  protected move(): void {
    const { selection, report } = this.context.state;
    const run = this.lines()[0]?.run;
    if (run !== undefined) this.chart.move(xOf(report, selection, run, selection.step));
    this.read();
  }

  /** The last value that was logged up to the present step, of each line. */
  private read(): void {
    const { selection } = this.context.state;
    const found = this.traces().map((trace) => {
      const point = trace.points.filter((one) => one.step <= selection.step).at(-1);
      return point ? [el("b", {}, number(point.value)), trace.name ? ` ${trace.name}` : ` at step ${point.step}`] : [];
    });
    replace(this.readout, ...found.map((parts) => el("div", {}, ...parts)));
  }

  protected traces(): Trace[] {
    const { selection, report } = this.context.state;
    const names = report.runs.map((run) => run.name);
    const several = new Set(this.lines().map(({ run }) => run)).size > 1;
    return this.lines().map(({ run, line }) => ({
      name: [several ? run : "", line.name].filter((part) => part).join(" "),
      colour: category(several ? names.indexOf(run) : line.name === "validation" ? 1 : 0, isDark()),
      dashed: line.name === "validation", marks: line.marks,
      points: line.steps.map((step, i) => ({ step, x: xOf(report, selection, run, step), value: line.values[i]! })),
    }));
  }
}
