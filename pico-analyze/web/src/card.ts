/** What runs are, what is to be warned of, what stands out, and how everything is made again. */

import type { Document, Finding, Report, Run } from "./document";
import { button, el, type add } from "./dom";
import { counted, count } from "./format";

type Part = Parameters<typeof add>[1];

/** Facts that are worth a place at the top; the rest is behind a fold. */
const FIRST: Record<string, readonly string[]> = {
  architecture: ["parameters", "architecture", "model_type", "n_layers", "n_heads", "n_kv_heads", "d_model", "d_ff", "vocab_size"],
  data: ["source", "text", "repo", "tokenizer", "rows"],
  schedule: ["max_steps", "batch_size", "precision", "grad_clip", "optimizer.lr", "schedule.name", "schedule.warmup_steps"],
  "made by": ["producer", "seed", "begun", "commit", "torch", "cpu", "gpu"],
};

export function warningsOf(document: Document): HTMLElement | null {
  const several = document.runs.length > 1;
  const found = document.runs.flatMap((run) => run.warnings.map((text) => (several ? `${run.name}: ${text}` : text)));
  const all = [...found, ...document.notes];
  if (!all.length) return null;
  const list = el("ul", {}, ...all.map((text) => el("li", {}, text)));
  return el("section", { class: "warnings", "aria-label": "Warnings" }, el("h2", {}, all.length === 1 ? "Warning" : "Warnings"), list);
}

/** Findings of several runs that are shown at once; of more, those of the first run, and the others behind a fold each. */
const UNFOLDED = 12;

export function findingsOf(
  findings: readonly Finding[], link: (finding: Finding) => string, follow: (hash: string) => void,
): HTMLElement | null {
  if (!findings.length) return null;
  const runs = [...new Set(findings.map((finding) => String(finding.selection.run ?? "")))];
  const listed = (some: readonly Finding[]) => el("ol", {}, ...some.map((finding) => {
    const shown = el("a", { href: link(finding) }, finding.text);
    shown.addEventListener("click", (event) => {
      event.preventDefault(); // also where the address already says so
      follow(link(finding));
    });
    return el("li", {}, shown, finding.caveat ? el("span", { class: "caveat" }, ` ${finding.caveat}`) : null);
  }));
  const parts = runs.length < 2 || findings.length <= UNFOLDED ? [listed(findings)] : runs.map((run, number) => {
    const own = findings.filter((finding) => String(finding.selection.run ?? "") === run);
    return el("details", { open: !number }, el("summary", {}, `${run}: ${counted(own.length, "finding")}`), listed(own));
  });
  return el("section", { class: "findings", "aria-label": "Findings" }, el("h2", {}, "What stands out"), ...parts);
}

function shownName(name: string): string {
  if (name === "schedule.name") return "schedule";
  return name.replace(/^(optimizer|schedule)\./, "").replaceAll("_", " ");
}

function pairs(found: readonly (readonly [string, string])[]): HTMLElement {
  const list = el("dl", {});
  for (const [name, value] of found) {
    list.append(el("div", {}, el("dt", {}, shownName(name)), el("dd", {}, value)));
  }
  return list;
}

export function cardOf(run: Run, several: boolean): HTMLElement {
  const groups: Part[] = run.facts.map(([name, facts]) => {
    const wanted = FIRST[name];
    const first = wanted ? facts.filter(([key]) => wanted.includes(key)) : facts;
    return el("div", { class: "group" }, el("h3", {}, name), pairs(first.length ? first : facts));
  });
  const parts: Part[] = [];
  if (several) parts.push(el("h3", { class: "run" }, run.name));
  parts.push(el("p", { class: "where" }, [run.kind, run.location].filter((text) => text).join(" · ")));
  if (groups.length) parts.push(el("div", { class: "groups" }, ...groups));
  if (run.facts.length) {
    parts.push(el("details", {}, el("summary", {}, "Everything that is recorded"),
      el("div", { class: "groups" }, ...run.facts.map(([name, facts]) => el("div", { class: "group" }, el("h3", {}, name), pairs(facts))),
        run.config.length ? el("div", { class: "group wide" }, el("h3", {}, "configuration"), pairs(run.config)) : null)));
  }
  if (run.checkpoints.length) parts.push(checkpoints(run));
  if (!parts.length) parts.push(el("p", {}, "Nothing is known of the run but its rows."));
  return el("article", { class: "card", "aria-label": `Run ${run.name}` }, ...parts);
}

function checkpoints(run: Run): HTMLElement {
  const rows = run.checkpoints.map((one) => el("tr", {},
    el("th", { scope: "row" }, count(one.step)), el("td", {}, one.tokens === null ? "" : count(one.tokens)), el("td", {}, one.size),
    el("td", { class: "text" }, one.captures.join("; ")), el("td", { class: "text" }, one.digest)));
  const head = ["step", "tokens", "size", "captures", "digest"].map((name) => el("th", { scope: "col" }, name));
  return el("details", {}, el("summary", {}, counted(run.checkpoints.length, "checkpoint")),
    el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Checkpoints of ${run.name}` },
      el("table", { class: "values" }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows))));
}

function commandBlock(command: string): HTMLElement {
  const copy = button("copy", () => {
    void navigator.clipboard?.writeText(command).then(() => (copy.textContent = "copied"), () => undefined);
  }, { "aria-label": `Copy: ${command}` });
  return el("div", { class: "command" }, el("code", {}, command), copy);
}

export function reproduceOf(report: Report): HTMLElement {
  const { document } = report;
  const parts: Part[] = [];
  if (document.command) parts.push(el("h3", {}, "This page"), commandBlock(document.command));
  if (document.study) parts.push(el("p", {}, document.study));
  for (const run of document.runs) {
    const of = document.runs.length > 1 ? ` of ${run.name}` : "";
    if (run.commands.length) parts.push(el("h3", {}, `The rows${of}`), ...run.commands.map(commandBlock));
    if (run.provenance.length) parts.push(el("h3", {}, `What they stand on${of}`), pairs(run.provenance));
  }
  parts.push(el("p", { class: "small" }, `Made by pico-analyze ${document.version}. Values here have the seven digits of float32; rows.parquet and rows.csv beside the table have all.`));
  return el("div", { class: "reproduce" }, ...parts);
}
