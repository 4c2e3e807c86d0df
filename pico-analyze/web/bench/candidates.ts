/**
 * Two ways to draw what a selection changes, on the size of the issue: 5 panels, each 12 lines over 20 steps and a map of
 * 12 × 12 cells. `uplot`: uPlot and a canvas. `plot`: Observable Plot (on D3), lines and cells as SVG.
 * Results are left in `window.results`: milliseconds of 50 changes, layout included.
 */

import * as Plot from "@observablehq/plot";
import uPlot from "uplot";

const [PANELS, LAYERS, STEPS, HEADS] = [5, 12, 20, 12];
const value = (panel: number, layer: number, step: number, turn: number): number => Math.sin(panel + layer / 3 + step / 5 + turn);
const rooms = Array.from({ length: PANELS }, () => document.body.appendChild(document.createElement("div")));

function byPlot(turn: number): void {
  rooms.forEach((room, panel) => {
    const points = [];
    const cells = [];
    for (let layer = 0; layer < LAYERS; layer++) {
      for (let step = 0; step < STEPS; step++) points.push({ layer, step, value: value(panel, layer, step, turn) });
      for (let head = 0; head < HEADS; head++) cells.push({ layer, head, value: value(panel, layer, head, turn) });
    }
    room.replaceChildren(
      Plot.plot({ width: 700, height: 168, color: { scheme: "viridis" }, marks: [Plot.line(points, { x: "step", y: "value", z: "layer", stroke: "layer" }), Plot.dot(points, { x: "step", y: "value", fill: "layer", r: 2 })] }),
      Plot.plot({ width: 260, height: 168, color: { scheme: "viridis" }, marks: [Plot.cell(cells, { x: "head", y: "layer", fill: "value" })] }),
    );
  });
}

const drawn: uPlot[] = [];

function byUPlot(turn: number): void {
  rooms.forEach((room, panel) => {
    drawn[panel]?.destroy();
    room.replaceChildren();
    const xs = Array.from({ length: STEPS }, (_, i) => i);
    const lines = Array.from({ length: LAYERS }, (_, layer) => xs.map((step) => value(panel, layer, step, turn)));
    const series = lines.map((_, layer) => ({ stroke: `hsl(${layer * 25} 60% 45%)`, points: { show: true, size: 4 } }));
    drawn[panel] = new uPlot({ width: 700, height: 168, legend: { show: false }, scales: { x: { time: false } }, series: [{}, ...series] }, [xs, ...lines] as uPlot.AlignedData, room);
    const canvas = room.appendChild(document.createElement("canvas"));
    [canvas.width, canvas.height] = [260, 168];
    const to = canvas.getContext("2d")!;
    for (let layer = 0; layer < LAYERS; layer++) {
      for (let head = 0; head < HEADS; head++) {
        to.fillStyle = `hsl(${200 + 80 * value(panel, layer, head, turn)} 60% 45%)`;
        to.fillRect((head * 260) / HEADS, (layer * 168) / LAYERS, 260 / HEADS - 1, 168 / LAYERS - 1);
      }
    }
  });
}

async function measured(draw: (turn: number) => void): Promise<{ median: number; worst: number; first: number }> {
  const taken: number[] = [];
  for (let turn = 0; turn < 51; turn++) {
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    const begun = performance.now();
    draw(turn);
    document.body.getBoundingClientRect();
    await Promise.resolve();
    taken.push(performance.now() - begun);
  }
  const [first, ...rest] = taken;
  rest.sort((a, b) => a - b);
  return { first: first!, median: rest[25]!, worst: rest.at(-1)! };
}

void (async () => {
  const results = { uplot: await measured(byUPlot), plot: await measured(byPlot) };
  (window as unknown as { results: unknown }).results = results;
})();
