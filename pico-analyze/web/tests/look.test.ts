import { describe, expect, it } from "vitest";
import { css, inkOn, ordered, viridis } from "../src/colours";
import { exact, number, short } from "../src/format";
import { axisOf } from "../src/horizontal";

describe("the horizontal axis", () => {
  it("has room for 0, keeps order, and gives steps back", () => {
    const axis = axisOf([0, 1, 2, 4, 128, 1000], "step");
    const places = [0, 1, 2, 4, 128, 1000].map(axis.place);
    expect([...places].sort((a, b) => a - b)).toEqual(places);
    for (const step of [0, 1, 128]) expect(axis.value(axis.place(step))).toBeCloseTo(step, 9);
    expect(axis.ticks.map(([, name]) => name)).toEqual(["0", "1", "10", "100", "1k"]);
  });

  it("stays straight where counts are of one size, and stands one step", () => {
    expect(axisOf([100, 200, 300], "step").place(200)).toBe(200);
    expect(axisOf([5], "step").min).toBeLessThan(5);
    expect(axisOf([], "step").ticks.length).toBeGreaterThan(0);
  });
});

describe("numbers", () => {
  it("are short for people and whole for programs", () => {
    expect([0, 0.93119, 12.4, 123456, 1e-7, NaN, -Infinity].map(number)).toEqual(["0", "0.9312", "12.4", "1.23e5", "1.00e-7", "–", "−∞"]);
    expect([12, 4100, 3e9].map(short)).toEqual(["12", "4.1k", "3G"]);
    expect(exact(Math.fround(1 / 3))).toBe("0.3333333");
  });
});

describe("colours", () => {
  it("of 48 layers differ, and ink is read on each of them", () => {
    for (const dark of [false, true]) {
      const found = Array.from({ length: 48 }, (_, i) => ordered(i, 48, dark));
      expect(new Set(found.map((one) => css(one))).size).toBe(48);
    }
    expect([inkOn(viridis(0)), inkOn(viridis(1))]).toEqual(["#fff", "#000"]);
  });
});
