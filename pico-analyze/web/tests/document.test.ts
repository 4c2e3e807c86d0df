import { describe, expect, it } from "vitest";
import { Report } from "../src/document";
import { cube, document, packed } from "./made";

describe("a cube", () => {
  it("has the value of a place where its strides say", () => {
    const [found] = new Report(document()).cubes;
    const at = 1 * found!.strides.layer + 2 * found!.strides.head + 1 * found!.strides.step;
    expect(found!.values[at]).toBe(16);
    expect(found!.place(at)).toMatchObject({ run: "m", layer: 1, head: 1, step: 1 });
  });

  it("tells what is undefined from what was not measured", () => {
    const values = Array.from({ length: 18 }, (_, i) => (i < 2 ? NaN : i));
    const codes = Buffer.from(Uint8Array.from(values, (_, i) => Number(i === 0))).toString("base64");
    const [found] = new Report(document([cube({ arrays: { value: packed(values) }, codes, reasons: ["zero"] })])).cubes;
    expect([found!.reason(0), found!.reason(1), found!.measured(0), found!.measured(1)]).toEqual(["zero", null, true, false]);
  });

  it("is found by a name of its own, though two ask the same of other things", () => {
    const ids = new Report(document([cube(), cube({ target: "step 10" })])).cubes.map((one) => one.id);
    expect(new Set(ids).size).toBe(2);
  });
});

describe("tokens", () => {
  it("between checkpoints are by their share of the way, and none beyond them", () => {
    const report = new Report(document());
    expect([report.tokens("m", 10), report.tokens("m", 5), report.tokens("m", 11), report.tokens("x", 0)]).toEqual([1000, 500, null, null]);
  });
});
