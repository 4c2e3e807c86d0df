/** The bar that stays in sight: the step with its player, and what is selected. */

import { category, css, inkOn, ordered } from "./colours";
import type { Name } from "./document";
import { announce, button, choice, el, isDark, replace } from "./dom";
import { short } from "./format";
import type { Changed, Lines, Selection, State, X } from "./state";

const FRAME_MS = 420;

export class Controls {
  readonly element = el("div", { class: "deck", role: "region", "aria-label": "Selection" });
  private readonly slider = el("input", { type: "range", min: 0, step: 1, "aria-label": "Step" });
  private readonly shown = el("output", { class: "step" });
  private readonly player: HTMLButtonElement;
  private readonly choices = el("div", { class: "choices" });
  private timer: number | undefined;

  constructor(private readonly state: State) {
    this.player = button("▶", () => this.play(), { class: "play", "aria-label": "Play the steps" });
    this.slider.addEventListener("input", () => this.go(Number(this.slider.value)));
    const by = (count: number) => () => this.go(Number(this.slider.value) + count);
    this.element.append(
      el("div", { class: "time" }, this.player, button("‹", by(-1), { "aria-label": "The step before" }), this.slider,
        button("›", by(1), { "aria-label": "The step after" }), this.shown),
      this.choices,
    );
    this.build();
    this.update(null);
  }

  private go(at: number): void {
    const steps = this.state.report.steps();
    const step = steps[Math.min(Math.max(at, 0), steps.length - 1)];
    if (step !== undefined) this.state.set({ step });
  }

  private play(): void {
    if (this.timer !== undefined) return this.stop();
    const steps = this.state.report.steps();
    if (this.state.selection.step === steps.at(-1)) this.go(0);
    this.player.textContent = "❚❚";
    this.player.setAttribute("aria-label", "Stop playing");
    this.timer = window.setInterval(() => {
      const at = steps.indexOf(this.state.selection.step) + 1;
      if (at >= steps.length) this.stop();
      else this.go(at);
    }, FRAME_MS);
  }

  stop(): void {
    window.clearInterval(this.timer);
    this.timer = undefined;
    this.player.textContent = "▶";
    this.player.setAttribute("aria-label", "Play the steps");
  }

  /** The choices that the report has, made anew when it has others. */
  build(): void {
    const { report, selection } = this.state;
    const set = (part: Partial<Selection>): void => this.state.set(part);
    const [sites, splits] = [report.names("site"), report.names("split").filter((split) => split !== null)];
    const heads = report.names("head").filter((head) => head !== null);
    const found: HTMLElement[] = [];
    if (report.runs.length > 1) found.push(this.runs());
    if (sites.length > 1) found.push(this.select("site", [["", "first of each"], ...named(sites)], selection.site ?? "", (v) => set({ site: v || null })));
    if (splits.length > 1) found.push(this.select("split", [["", "val"], ...named(splits.filter((one) => one !== "val"))], selection.split ?? "", (v) => set({ split: v || null })));
    const layers = report.names("layer").filter((layer) => layer !== null);
    if (layers.length > 1) found.push(this.layers(layers.map(Number)));
    if (heads.length) {
      const options: [string, string][] = [["", "whole"], ...heads.map((head): [string, string] => [String(head), `head ${head}`])];
      found.push(this.select("head", options, selection.head === null ? "" : String(selection.head), (v) => set({ head: v === "" ? null : Number(v) })));
    }
    const lines: [string, string][] = [["layers", "layers"]];
    if (heads.length) lines.push(["heads", "heads"]);
    if (sites.length > 1) lines.push(["sites", "sites"]);
    if (report.runs.length > 1) lines.push(["runs", "runs"]);
    if (lines.length > 1) found.push(this.select("lines", lines, selection.lines, (v) => set({ lines: v as Lines })));
    if (report.runs.some((run) => run.tokens[0].length > 1)) {
      found.push(this.select("over", [["step", "steps"], ["tokens", "tokens"]], selection.x, (v) => set({ x: v as X })));
    }
    replace(this.choices, ...found);
    this.slider.max = String(Math.max(report.steps().length - 1, 0));
    this.slider.disabled = report.steps().length < 2;
    this.player.disabled = this.slider.disabled;
  }

  private select(label: string, options: [string, string][], value: string, chosen: (value: string) => void): HTMLElement {
    return choice(label, options, value, chosen).element;
  }

  /** A chip for each run, which is on or off; one that is the last stays on. */
  private runs(): HTMLElement {
    const { report, selection } = this.state;
    const room = el("div", { class: "chips", role: "group", "aria-label": "Runs" });
    report.runs.forEach((run, i) => {
      const on = !selection.runs.length || selection.runs.includes(run.name);
      const chip = button(run.name, () => {
        const all = report.runs.map((one) => one.name);
        const now = this.state.selection.runs.length ? this.state.selection.runs : all;
        const next = now.includes(run.name) ? now.filter((name) => name !== run.name) : all.filter((name) => name === run.name || now.includes(name));
        this.state.set({ runs: next.length === all.length || !next.length ? [] : next });
      }, { "aria-pressed": String(on) });
      chip.style.setProperty("--swatch", category(i, isDark()));
      room.append(chip);
    });
    return room;
  }

  /** A cell for each layer in its colour: the key of all charts, and what chooses from it. */
  private layers(layers: number[]): HTMLElement {
    const { selection } = this.state;
    const room = el("div", { class: "layers", role: "toolbar", "aria-label": "Layers: Enter chooses one, with Shift more" });
    const most = Math.max(...layers) + 1;
    const cells = layers.map((layer, i) => {
      const colour = ordered(layer, most, isDark());
      const on = !selection.layers.length || selection.layers.includes(layer);
      const cell = el("button", { type: "button", "aria-pressed": String(on), "aria-label": `layer ${layer}`, tabindex: i ? -1 : 0 }, String(layer));
      cell.style.setProperty("--cell", css(colour));
      cell.style.setProperty("--on-cell", inkOn(colour));
      cell.addEventListener("click", (event) => this.chooseLayer(layer, event.shiftKey || event.ctrlKey || event.metaKey));
      return cell;
    });
    room.append(el("span", { class: "label" }, "layers"), ...cells);
    room.append(button("all", () => this.state.set({ layers: [] }), { class: "all", "aria-pressed": String(!selection.layers.length) }));
    room.addEventListener("keydown", (event) => {
      const by = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      const at = cells.indexOf(document.activeElement as HTMLButtonElement);
      const next = cells[Math.min(Math.max(at + by, 0), cells.length - 1)];
      if (!by || at < 0 || !next) return;
      event.preventDefault();
      cells.forEach((cell) => cell.setAttribute("tabindex", cell === next ? "0" : "-1"));
      next.focus();
    });
    return room;
  }

  private chooseLayer(layer: number, more: boolean): void {
    const now = this.state.selection.layers;
    if (more) this.state.set({ layers: now.includes(layer) ? now.filter((one) => one !== layer) : [...now, layer].sort((a, b) => a - b) });
    else this.state.set({ layers: now.length === 1 && now[0] === layer ? [] : [layer] });
  }

  update(changed: Changed | null): void {
    const { report, selection } = this.state;
    const steps = report.steps();
    const at = Math.max(steps.indexOf(selection.step), 0);
    this.slider.value = String(at);
    const tokens = report.runs.map((run) => report.tokens(run.name, selection.step)).find((one) => one !== null);
    const text = `step ${selection.step.toLocaleString("en")}`;
    this.slider.setAttribute("aria-valuetext", text);
    replace(this.shown, el("b", {}, text), tokens === undefined || tokens === null ? "" : ` ${short(tokens)} tokens`,
      steps.length ? ` · ${at + 1} of ${steps.length}` : "");
    if (changed?.has("step")) announce(text);
    if (changed && [...changed].some((key) => key !== "step" && key !== "metric")) {
      const active = this.choices.contains(document.activeElement) ? this.place() : null;
      this.build();
      if (active !== null) (this.choices.querySelectorAll<HTMLElement>("button, select")[active] ?? null)?.focus();
    }
  }

  /** Where the focus is among the choices, to be there again. */
  private place(): number {
    return [...this.choices.querySelectorAll("button, select")].indexOf(document.activeElement as HTMLElement);
  }
}

function named(names: Name[]): [string, string][] {
  return names.map((name) => [String(name), String(name ?? "–")]);
}
