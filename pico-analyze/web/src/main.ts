/** The page: reads the document beside it, lays out its parts, and keeps selection, panels and address together. */

import "uplot/dist/uPlot.min.css";
import "./style.css";
import { BatchViewer } from "./batch";
import { cardOf, findingsOf, reproduceOf, warningsOf } from "./card";
import { hideTip } from "./chart";
import { Controls } from "./controls";
import { Report, type Document, type Finding } from "./document";
import { el, forgetStyles, replace, setPrinting } from "./dom";
import { counted } from "./format";
import { horizontal, type Horizontal } from "./horizontal";
import { follow } from "./live";
import { MeasurePanel } from "./measure";
import type { Context, Panel } from "./panel";
import { hashOf, selectionOf, State } from "./state";
import { RowsTable } from "./table";
import { panelsOf, TrainingPanel } from "./training";

class Page {
  private readonly state: State;
  private panels: Panel[] = [];
  private axis: Horizontal;
  private readonly context: Context;
  private controls: Controls | undefined;
  private table!: RowsTable;
  private batches: BatchViewer | null = null;
  private hashTimer: number | undefined;
  private readonly sight: IntersectionObserver;

  constructor(private readonly root: HTMLElement, found: Document) {
    this.state = new State(new Report(found), location.hash);
    this.axis = horizontal(this.state.report, this.state.selection);
    this.context = { state: this.state, axis: () => this.axis };
    this.sight = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const panel = this.panels.find((one) => one.element === entry.target);
        panel?.seen(entry.isIntersecting);
        if (entry.isIntersecting && entry.target === this.table.element) this.table.start();
      }
    }, { rootMargin: "200px 0px" });
    this.state.listen((selection, changed) => {
      hideTip();
      if (changed.has("x") || changed.has("runs")) this.axis = horizontal(this.state.report, selection);
      this.controls?.update(changed);
      for (const panel of this.panels) panel.update(changed);
      this.batches?.update(changed);
      this.writeHash();
    });
    window.addEventListener("hashchange", () => this.follow(location.hash));
    const redraw = (): void => {
      forgetStyles();
      this.controls?.build();
      this.panels.forEach((panel) => panel.flush(true));
    };
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    window.addEventListener("beforeprint", () => {
      setPrinting(true);
      redraw();
    });
    window.addEventListener("afterprint", () => {
      setPrinting(false);
      redraw();
    });
    this.build();
    this.goToMetric();
  }

  /** Other rows of the same runs: what is selected stays, and who stood at the last step goes on to the new one. */
  renew(found: Document): void {
    const last = this.state.report.steps().at(-1);
    const atEnd = this.state.selection.step === last;
    const selection = { ...this.state.selection };
    this.state.report = new Report(found);
    const now = this.state.report.steps();
    this.state.selection = { ...selection, step: atEnd ? (now.at(-1) ?? 0) : selection.step };
    this.axis = horizontal(this.state.report, this.state.selection);
    const top = scrollY;
    this.build();
    scrollTo({ top });
  }

  private build(): void {
    const { report } = this.state;
    this.sight.disconnect();
    this.controls?.stop();
    this.controls = new Controls(this.state);
    this.table = new RowsTable(this.state);
    const { main, parts } = panelsOf(report);
    const training = main.map((name) => new TrainingPanel(this.context, name));
    const ofParts = parts.map((name) => new TrainingPanel(this.context, name));
    const measures = report.cubes.map((cube) => new MeasurePanel(this.context, cube));
    this.panels = [...training, ...ofParts, ...measures];
    for (const panel of this.panels) panel.element.id = panel.id;
    this.batches = report.runs.some((run) => run.batches) ? new BatchViewer(this.state) : null;
    const several = report.runs.length > 1;
    const known = report.runs.filter((run) => run.facts.length || run.location || run.checkpoints.length);
    const nothing = "Nothing was computed of these runs yet: pico-analyze compute cka makes a first table, and the same command this page again.";
    replace(
      this.root,
      el("header", {}, el("h1", {}, report.document.title || "Report")),
      el("main", {},
        warningsOf(report.document),
        findingsOf(report.document.findings, (finding) => this.link(finding), (hash) => this.follow(hash)),
        known.length ? section("runs", several ? "Runs" : "The run", ...known.map((run) => cardOf(run, several))) : null,
        el("div", { class: "with-deck" },
          this.controls.element,
          training.length ? section("training", "Training", ...training.map((panel) => panel.element), folded(ofParts)) : null,
          section("measures", "Measures", measures.length ? null : el("p", { class: "nothing" }, nothing), ...measures.map((panel) => panel.element)),
          this.batches ? section("tokens", "What it read", this.batches.element) : null),
        section("table", "Table", this.table.element),
        section("reproduce", "How to reproduce", reproduceOf(report))),
    );
    this.addLinks();
    for (const panel of this.panels) panel.watch(this.sight);
    this.sight.observe(this.table.element);
  }

  /** Links to the parts that there are. The hash is the selection's, so they scroll and leave it as it is. */
  private addLinks(): void {
    const nav = el("nav", { "aria-label": "Parts of the page" });
    for (const part of this.root.querySelectorAll<HTMLElement>(".part")) {
      const link = el("a", { href: `#${part.id}` }, part.id);
      link.addEventListener("click", (event) => {
        event.preventDefault();
        part.scrollIntoView();
      });
      nav.append(link);
    }
    this.root.querySelector("header")?.append(nav);
  }

  private link(finding: Finding): string {
    const words = new URLSearchParams();
    for (const [name, value] of Object.entries(finding.selection)) words.set(name, String(value));
    return `#${words.toString()}`;
  }

  /** Show the selection of an address's hash. */
  private follow(hash: string): void {
    this.state.set(selectionOf(hash, this.state.report));
    this.goToMetric();
  }

  private goToMetric(): void {
    const { metric } = this.state.selection;
    if (metric === null) return;
    const panel = this.panels.find((one) => one instanceof MeasurePanel && (one.cube.id === metric || one.cube.raw.metric === metric));
    panel?.element.scrollIntoView({ block: "center" });
  }

  /** Browsers take some hundred changes of the address in half a minute, and a slider makes more. */
  private writeHash(): void {
    window.clearTimeout(this.hashTimer);
    this.hashTimer = window.setTimeout(() => {
      const hash = hashOf(this.state.selection, this.state.report);
      history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
    }, 150);
  }
}

function section(id: string, name: string, ...children: (Node | null)[]): HTMLElement {
  const found = el("section", { id, class: "part", "aria-labelledby": `${id}-name` }, el("h2", { id: `${id}-name` }, name));
  for (const child of children) if (child) found.append(child);
  return found;
}

/** Panels of parts of tasks: many, and seldom what was come for. */
function folded(panels: TrainingPanel[]): HTMLElement | null {
  if (!panels.length) return null;
  return el("details", { class: "parts" }, el("summary", {}, `${counted(panels.length, "result")} of parts of tasks`), ...panels.map((panel) => panel.element));
}

function start(): void {
  const root = document.getElementById("report");
  const block = document.getElementById("document");
  if (!root || !block) return;
  const page = new Page(root, JSON.parse(block.textContent ?? "") as Document);
  const tag = block.dataset["live"];
  if (tag) follow(tag, (found) => page.renew(found));
  document.documentElement.dataset["ready"] = "1";
}

start();
