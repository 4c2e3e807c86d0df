/** What a run read: rows of tokens as text, shaded by the loss of each token where it was measured. */

import { hideTip, showTip } from "./chart";
import { floats, integers, type RawBatch, type Run } from "./document";
import { button, el, replace } from "./dom";
import { count, counted, number } from "./format";
import { tabs } from "./panel";
import type { Changed, State } from "./state";

/** Nats at which the shading ends: a loss as high as chance among 4,000 tokens. */
const MOST_LOSS = 8;

export class BatchViewer {
  readonly element = el("div", { class: "batches" });
  private split = "";
  private row = 0;
  private run: Run | undefined;

  constructor(private readonly state: State) {
    this.element.addEventListener("mouseleave", hideTip);
    this.draw();
  }

  update(changed: Changed | null): void {
    if (changed === null || changed.has("step") || changed.has("runs")) this.draw();
  }

  private get step(): number {
    return this.state.selection.step;
  }

  private draw(): void {
    const { report, selection } = this.state;
    const shown = report.runs.filter((run) => !selection.runs.length || selection.runs.includes(run.name));
    this.run = shown.find((run) => run.batches !== null);
    const kept = this.run?.batches;
    if (!this.run || !kept) {
      return replace(this.element, el("p", { class: "nothing" }, "The runs selected keep no rows of tokens: pico-train keeps the batch of each step that it captures."));
    }
    const splits = [...new Set(kept.batches.map((batch) => batch.split))];
    if (!splits.includes(this.split)) this.split = Object.keys(kept.losses).length ? "val" : (splits[0] ?? "");
    const batch = this.batch(kept.batches);
    if (!batch) return replace(this.element, el("p", { class: "nothing" }, "No batch is kept."));
    const [rows, tokens] = batch.shape;
    this.row = Math.min(this.row, rows - 1);
    const ids = integers(batch.ids).subarray(this.row * tokens, (this.row + 1) * tokens);
    const losses = this.losses();
    const values = losses?.values.subarray(this.row * tokens, (this.row + 1) * tokens) ?? null;
    const names = splits.map((split) => [split, split === "train" ? "batches it was trained on" : "validation rows"] as const);
    const turn = (by: number) => () => {
      this.row = (this.row + by + rows) % rows;
      this.draw();
    };
    replace(
      this.element,
      el("div", { class: "batch-head" },
        tabs("Which rows", names, this.split, (split) => {
          [this.split, this.row] = [split, 0];
          this.draw();
        }),
        el("div", { class: "turn" }, button("‹", turn(-1), { "aria-label": "The row before" }),
          el("span", {}, `row ${this.row + 1} of ${rows}`), button("›", turn(1), { "aria-label": "The row after" })),
        el("span", { class: "of" }, [this.what(batch), batch.sources[this.row] ?? ""].filter((text) => text).join(" · "))),
      this.text(ids, values, kept.texts),
      values
        ? el("div", { class: "shading" }, el("span", {}, `loss of each token at step ${count(losses!.step)}, nats`), el("span", { class: "legend" }, "0", el("i", { class: "wash", "aria-hidden": "true" }), `${MOST_LOSS} and more`))
        : el("p", { class: "small" }, this.split === "val"
            ? "Losses of single tokens were not measured: pico-analyze behave --probe token_losses measures them."
            : "The losses of single tokens are measured of validation rows."),
    );
  }

  private what(batch: RawBatch): string {
    const [rows, tokens] = batch.shape;
    const cut = [
      batch.n_rows > rows ? `the first ${count(rows)} of ${count(batch.n_rows)} rows` : counted(rows, "row"),
      batch.n_tokens > tokens ? `the first ${count(tokens)} of ${count(batch.n_tokens)} tokens of each` : "",
    ].filter((text) => text).join(", ");
    if (batch.step === null) return cut;
    return `batch of step ${count(batch.step)}${batch.step === this.step ? "" : ", the nearest that is kept"}: ${cut}`;
  }

  /** The batch of the present step, or of the nearest before it. */
  private batch(batches: readonly RawBatch[]): RawBatch | undefined {
    const found = batches.filter((batch) => batch.split === this.split);
    return found.filter((batch) => batch.step === null || batch.step <= this.step).at(-1) ?? found[0];
  }

  private losses(): { step: number; values: Float32Array } | null {
    const losses = this.run?.batches?.losses;
    if (this.split !== "val" || !losses) return null;
    const steps = Object.keys(losses).map(Number).sort((a, b) => a - b);
    const step = steps.filter((one) => one <= this.step).at(-1) ?? steps[0];
    return step === undefined ? null : { step, values: floats(losses[String(step)]!) };
  }

  private text(ids: Int32Array, losses: Float32Array | null, texts: Record<string, string>): HTMLElement {
    const room = el("div", { class: "tokens", tabindex: 0, role: "region", "aria-label": "Tokens of the row" });
    ids.forEach((id, i) => {
      const text = texts[String(id)];
      const token = el("span", { class: text === undefined ? "id" : "token" }, text === undefined ? `${id} ` : text.replaceAll("\n", "↵\n"));
      const loss = losses?.[i] ?? NaN;
      if (Number.isFinite(loss)) {
        token.style.setProperty("--loss", String(Math.min(loss / MOST_LOSS, 1)));
      }
      token.addEventListener("mouseenter", (event) => showTip(event.clientX, event.clientY, [
        `token ${id} at ${i}`, Number.isFinite(loss) ? `loss ${number(loss)} nats, p ${number(Math.exp(-loss))}` : "no loss known",
      ]));
      room.append(token);
    });
    return room;
  }
}
