import { describe, expect, it } from "vitest";
import { Report } from "../src/document";
import { mapOf, mapsOf, nearestIndex, rangeOf, seriesOf, viewOf } from "../src/series";
import { initial, type Selection } from "../src/state";
import { cube, document } from "./made";

const report = new Report(document());
const [norm] = report.cubes;

function drawn(part: Partial<Selection>): { name: string; first: number }[] {
  const selection = { ...initial(report), ...part };
  return seriesOf(norm!, selection, viewOf(norm!, selection), null).map((one) => ({ name: one.name, first: norm!.values[one.start]! }));
}

describe("lines", () => {
  it("are layers of the whole, of one head, or heads of a layer", () => {
    expect(drawn({})).toEqual([{ name: "layer 0", first: 0 }, { name: "layer 1", first: 9 }]);
    expect(drawn({ head: 1, layers: [1] })).toEqual([{ name: "layer 1", first: 15 }]);
    expect(drawn({ lines: "heads", layers: [1] }).map((one) => one.first)).toEqual([9, 12, 15]);
    expect(drawn({ lines: "runs", layers: [0] })).toEqual([{ name: "m", first: 0 }]);
  });

  it("say what stands in place of what was not measured", () => {
    const view = viewOf(norm!, { ...initial(report), split: "train", layers: [7], head: 9 });
    expect(view.instead).toMatch(/train was not measured.*layers were not measured.*no head 9/);
  });
});

describe("maps", () => {
  it("have layers down and heads across, at the present step", () => {
    expect(mapsOf(norm!)).toEqual(["heads", "steps"]);
    const selection = { ...initial(report), step: 1 };
    const map = mapOf(norm!, "heads", selection, viewOf(norm!, selection), 0);
    expect([...map.at].map((at) => norm!.values[at])).toEqual([4, 7, 13, 16]);
    expect(rangeOf(norm!, [map])).toEqual([3, 17]); // over all steps of both heads
  });

  it("of a step between two show the one before", () => {
    expect([nearestIndex(norm!, 0), nearestIndex(norm!, 9), nearestIndex(norm!, 99)]).toEqual([0, 1, 2]);
  });
});
