import { describe, expect, it } from "vitest";
import { Report } from "../src/document";
import { hashOf, initial, ranges, selectionOf, State, unranged, type Selection } from "../src/state";
import { cube, document, run } from "./made";

const report = new Report(document([cube()], [run("m"), run("<b>&=#")]));

describe("the address", () => {
  it("gives every selection back", () => {
    const selections: Partial<Selection>[] = [
      {}, { runs: ["<b>&=#"] }, { layers: [0, 1] }, { head: 1, step: 1 }, { site: "attn.v", split: "val", lines: "heads", x: "tokens" },
      { metric: "norm", layers: [1] },
    ];
    for (const part of selections) {
      const selection = { ...initial(report), ...part };
      expect(selectionOf(`#${hashOf(selection, report)}`, report)).toEqual(selection);
    }
  });

  it("is empty for what is shown at first", () => {
    expect(hashOf(initial(report), report)).toBe("");
  });

  it("that names nothing which is there changes nothing", () => {
    expect(selectionOf("#run=x&site=y&layer=9,a-b&head=7&lines=z&x=q&metric=none", report)).toEqual(initial(report));
    expect(selectionOf("#step=7", report).step).toBe(10);
    expect(selectionOf("#%E0%A4%A&&==", report)).toEqual(initial(report));
  });
});

describe("ranges", () => {
  it("are read as they are written", () => {
    expect(ranges([3, 0, 1, 2, 7])).toBe("0-3,7");
    expect(unranged("0-3,7")).toEqual([0, 1, 2, 3, 7]);
    expect(unranged("0-99999999").length).toBeLessThan(10_002);
  });
});

describe("a selection", () => {
  it("tells only of what changed", () => {
    const state = new State(report, "");
    const heard: string[][] = [];
    state.listen((_, changed) => heard.push([...changed]));
    state.set({ layers: [1], step: state.selection.step });
    state.set({ layers: [1] });
    expect(heard).toEqual([["layers"]]);
  });
});
