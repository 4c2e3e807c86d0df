/** What panels share: a name beside the plots, a table behind them, and drawing only what is in sight. */

import { button, el, replace } from "./dom";
import { exact, number } from "./format";
import type { Horizontal } from "./horizontal";
import { xOf } from "./series";
import type { Changed, State } from "./state";
import type { Trace } from "./chart";

export interface Context {
  state: State;
  /** The horizontal axis of the present selection. */
  axis: () => Horizontal;
}

export abstract class Panel {
  readonly element: HTMLElement;
  protected readonly head = el("div", { class: "head" });
  protected readonly body = el("div", { class: "body" });
  private readonly table = el("div", { class: "scroll", tabindex: 0, role: "region" });
  private readonly behind = el("div", { class: "behind", hidden: true });
  /** Opens the table behind the charts; a part of the head, which is drawn anew. */
  protected readonly opener: HTMLButtonElement;
  /** What has to be drawn when it comes in sight. */
  private pending: "all" | "step" | null = "all";
  private inSight = false;
  private opened = false;

  constructor(protected readonly context: Context, readonly id: string, name: string) {
    this.table.setAttribute("aria-label", `Values of ${name}`);
    this.behind.append(this.table);
    this.opener = button("values", () => {
      this.opened = !this.opened;
      this.behind.hidden = !this.opened;
      this.opener.setAttribute("aria-expanded", String(this.opened));
      this.fillTable();
    }, { class: "fold", "aria-expanded": "false", "aria-label": `Values of ${name} as a table` });
    this.element = el("section", { class: "panel", "aria-label": name }, this.head, this.body);
    this.element.append(this.behind);
  }

  watch(sight: IntersectionObserver): void {
    sight.observe(this.element);
  }

  seen(now: boolean): void {
    this.inSight = now;
    if (now) this.flush();
  }

  update(changed: Changed | null): void {
    const all = changed === null || [...changed].some((key) => key !== "step" && key !== "metric");
    if (!all && !changed.has("step")) return;
    this.pending = all || this.pending === "all" ? "all" : "step";
    if (this.inSight) this.flush();
  }

  /** Draw now, in sight or not: before the page is printed. */
  flush(force = false): void {
    if (force) this.pending = "all";
    if (this.pending === "all") {
      this.draw();
      this.fillTable();
    } else if (this.pending === "step") this.move();
    this.pending = null;
  }

  protected abstract draw(): void;
  /** The step alone changed. */
  protected abstract move(): void;
  protected abstract traces(): Trace[];

  private fillTable(): void {
    if (this.opened) replace(this.table, valuesTable(this.traces()));
  }
}

/** The step nearest to a place along x, as the axis has it. */
export function stepAt(context: Context, run: string, x: number): number {
  const { report, selection } = context.state;
  const { place } = context.axis();
  let [best, away] = [selection.step, Infinity];
  for (const step of report.steps()) {
    const at = xOf(report, selection, run, step);
    const distance = at === null ? Infinity : Math.abs(place(at) - place(x));
    if (distance < away) [best, away] = [step, distance];
  }
  return best;
}

/** Left and right arrows on a chart. */
export function stepKeys(context: Context, event: KeyboardEvent): void {
  const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
  if (!by) return;
  event.preventDefault();
  const steps = context.state.report.steps();
  const at = steps.indexOf(context.state.selection.step) + by;
  context.state.set({ step: steps[Math.min(Math.max(at, 0), steps.length - 1)] ?? 0 });
}

/** Every value that a panel draws, steps down, lines across. */
export function valuesTable(traces: readonly Trace[]): HTMLElement {
  const steps = [...new Set(traces.flatMap((trace) => trace.points.map((point) => point.step)))].sort((a, b) => a - b);
  const at = traces.map((trace) => new Map(trace.points.map((point) => [point.step, point])));
  const head = el("tr", {}, el("th", { scope: "col" }, "step"));
  for (const trace of traces) head.append(el("th", { scope: "col" }, trace.name || "value"));
  const body = el("tbody");
  for (const step of steps) {
    const row = el("tr", {}, el("th", { scope: "row" }, String(step)));
    for (const points of at) {
      const point = points.get(step);
      const defined = point !== undefined && Number.isFinite(point.value);
      const text = defined ? number(point.value) : point?.reason ? "undefined" : "";
      row.append(el("td", { title: defined ? exact(point.value) : (point?.reason ?? undefined) }, text));
    }
    body.append(row);
  }
  return el("table", { class: "values" }, el("thead", {}, head), body);
}

/** A row of buttons of which one is pressed. */
export function tabs(
  label: string, options: readonly (readonly [string, string])[], chosen: string, choose: (key: string) => void,
): HTMLElement {
  const room = el("div", { class: "tabs", role: "group", "aria-label": label });
  for (const [key, text] of options) room.append(button(text, () => choose(key), { "aria-pressed": String(key === chosen) }));
  return room;
}
