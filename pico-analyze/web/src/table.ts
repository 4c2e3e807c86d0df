/** The table of all rows: filter, order, pages, and its CSV. */

import { announce, button, el, replace } from "./dom";
import { counted, exact, number } from "./format";
import { cell, columnsOf, csv, filtered, isNumber, sorted, type Column, type Rows } from "./rows";
import type { State } from "./state";

const PAGE = 50;

export class RowsTable {
  readonly element = el("div", { class: "table" });
  private readonly filter = el("input", {
    type: "search", class: "filter", placeholder: "cka layer=3 step>100 value<0.5", "aria-label": "Filter rows", spellcheck: "false",
  });
  private readonly told = el("span", { class: "of" });
  private readonly body = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Rows" });
  private readonly pages = el("div", { class: "turn" });
  private columns: Column[] = [];
  private rows: Rows | null = null;
  private order = new Uint32Array(0);
  private by: { column: Column; descending: boolean } | null = null;
  private page = 0;
  private timer: number | undefined;
  private started = false;

  constructor(private readonly state: State) {
    this.filter.addEventListener("input", () => {
      window.clearTimeout(this.timer);
      this.timer = window.setTimeout(() => this.find(), 120);
    });
    this.element.append(
      el("div", { class: "table-head" }, this.filter, this.select(), button("Download CSV", () => this.download(), { class: "download" }), this.told, this.pages),
      this.body,
    );
  }

  /** Rows are looked up when the table first comes in sight. */
  start(): void {
    if (this.started) return;
    this.started = true;
    this.find();
  }

  /** The report has other rows now. */
  renew(): void {
    if (this.started) this.find();
  }

  private select(): HTMLElement {
    return button("only what is selected", () => {
      const { selection } = this.state;
      const words = [
        selection.site && `site=${selection.site}`, selection.split && `split=${selection.split}`,
        selection.head !== null && `head=${selection.head}`, selection.layers.length === 1 && `layer=${selection.layers[0]}`,
        selection.runs.length === 1 && `run=${selection.runs[0]}`, `step=${selection.step}`,
      ];
      this.filter.value = words.filter((word) => word).join(" ");
      this.find();
    }, { class: "selected" });
  }

  private find(): void {
    const { report } = this.state;
    this.columns = columnsOf(report);
    this.rows = filtered(report, this.filter.value);
    this.page = 0;
    this.arrange();
    announce(`${counted(this.rows.at.length, "row")}`);
  }

  private arrange(): void {
    this.order = sorted(this.state.report, this.rows!, this.by?.column ?? null, this.by?.descending ?? false) as Uint32Array<ArrayBuffer>;
    this.show();
  }

  private show(): void {
    const { report } = this.state;
    const many = Math.max(1, Math.ceil(this.order.length / PAGE));
    this.page = Math.min(this.page, many - 1);
    this.told.textContent = counted(this.order.length, "row");
    const turn = (by: number) => () => {
      this.page = Math.min(Math.max(this.page + by, 0), many - 1);
      this.show();
    };
    const edges = [this.page === 0, this.page === many - 1] as const;
    replace(this.pages, button("‹", turn(-1), { "aria-label": "The page before", disabled: edges[0] }),
      el("span", {}, `${this.page + 1} of ${many}`), button("›", turn(1), { "aria-label": "The page after", disabled: edges[1] }));
    if (!this.order.length) {
      const why = report.cubes.length ? "No row holds all of these words." : "There are no rows: nothing was computed yet.";
      return replace(this.body, el("p", { class: "nothing" }, why));
    }
    const head = el("tr", {}, ...this.columns.map((column) => this.header(column)));
    const body = el("tbody");
    for (const i of this.order.subarray(this.page * PAGE, (this.page + 1) * PAGE)) {
      const cube = report.cubes[this.rows!.cube[i]!]!;
      const row = el("tr");
      for (const column of this.columns) {
        const value = cell(cube, this.rows!.at[i]!, column);
        const floating = typeof value === "number" && !["layer", "head", "step", "target"].includes(column);
        const text = value === null ? "" : floating ? number(value) : String(value);
        row.append(el("td", isNumber(column) ? { title: floating ? exact(value) || undefined : undefined } : { class: "text" }, text));
      }
      body.append(row);
    }
    replace(this.body, el("table", { class: "values rows" }, el("thead", {}, head), body));
  }

  private header(column: Column): HTMLElement {
    const now = this.by?.column === column ? (this.by.descending ? "descending" : "ascending") : "none";
    const mark = { ascending: " ↑", descending: " ↓", none: "" }[now];
    const press = (): void => {
      if (this.by?.column !== column) this.by = { column, descending: false };
      else if (!this.by.descending) this.by = { column, descending: true };
      else this.by = null;
      this.arrange();
      this.body.querySelector<HTMLElement>(`th[data-column="${column}"] button`)?.focus();
    };
    return el("th", { scope: "col", "aria-sort": now, "data-column": column, class: isNumber(column) ? undefined : "text" }, button(column + mark, press));
  }

  private download(): void {
    this.start();
    const text = csv(this.state.report, this.rows!, this.order, this.columns);
    const address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    const link = el("a", { href: address, download: `${fileName(this.state.report.document.title)}.csv` });
    document.body.append(link);
    link.click();
    link.remove();
    window.setTimeout(() => URL.revokeObjectURL(address), 10_000);
  }
}

/** A name that every file system takes. */
function fileName(title: string): string {
  return `pico-${title.replace(/[^A-Za-z0-9._-]+/g, "-").slice(0, 80).replace(/^[-.]+|[-.]+$/g, "") || "report"}`;
}
