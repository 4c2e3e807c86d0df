import { describe, expect, it } from "vitest";
import { Report } from "../src/document";
import { columnsOf, csv, filtered, quoted, sorted } from "../src/rows";
import { cube, document } from "./made";

const report = new Report(document([cube(), cube({ metric: "cka", target: "step 10" })]));

function kept(filter: string): number {
  return filtered(report, filter).at.length;
}

describe("a filter", () => {
  it("keeps the rows that hold each of its words", () => {
    expect([kept(""), kept("cka"), kept("cka layer=1"), kept("head=whole"), kept("step>1 head=0"), kept("value<3 norm")]).toEqual([36, 18, 9, 12, 4, 3]);
    expect([kept("nothing"), kept("layer=7"), kept("site:attn"), kept("value>=17")]).toEqual([0, 0, 36, 2]);
  });
});

describe("order", () => {
  it("is by number, and stable", () => {
    const rows = filtered(report, "norm");
    const order = sorted(report, rows, "value", true);
    expect(report.cubes[0]!.values[rows.at[order[0]!]!]).toBe(17);
    expect([...sorted(report, rows, "layer", false)].slice(0, 9)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
  });
});

describe("CSV", () => {
  it("has the rows that are shown, in their order", () => {
    const rows = filtered(report, "norm layer=1 head=1 step=10");
    expect(columnsOf(report)).toContain("target");
    expect(csv(report, rows, sorted(report, rows, null, false), ["metric", "layer", "head", "step", "value"])).toBe("metric,layer,head,step,value\nnorm,1,1,10,17\n");
  });

  it("quotes what would be read as something else", () => {
    expect(['a,"b"', "=1+1", "-x", "plain", "a\nb"].map(quoted)).toEqual(['"a,""b"""', "'=1+1", "'-x", "plain", '"a\nb"']);
    expect([quoted(0.1), quoted(NaN), quoted(null), quoted(Math.fround(0.1))]).toEqual(["0.1", "", "", "0.1"]);
  });
});
