/** A map of cells coloured by value on a canvas: layers down; heads, sites, steps or targets across. */

import { css, viridis } from "./colours";
import { hideTip, showTip } from "./chart";
import type { Cube } from "./document";
import { announce, el, styled } from "./dom";
import { named, number } from "./format";
import type { HeatMap } from "./series";

export interface Drawn {
  cube: Cube;
  map: HeatMap;
  range: [number, number];
  label: string;
  /** Rows that are selected. */
  rows: ReadonlySet<number>;
  /** The column that is selected; -1 for none. */
  column: number;
  choose: (row: number, column: number) => void;
}

const [LEFT, BOTTOM] = [30, 18];

export class MapChart {
  readonly canvas = el("canvas", { class: "map", tabindex: 0, role: "img" });
  readonly element = el("div", { class: "map-room" }, this.canvas);
  private drawn: Drawn | null = null;
  private cursor: [number, number] | null = null;
  private width = 0;
  private readonly sizes = new ResizeObserver(([entry]) => {
    const width = entry?.contentRect.width ?? 0;
    if (width === this.width) return;
    this.width = width;
    if (this.drawn) this.draw(this.drawn);
  });

  constructor() {
    this.sizes.observe(this.element);
    this.canvas.addEventListener("mousemove", (event) => this.hover(event));
    this.canvas.addEventListener("mouseleave", hideTip);
    this.canvas.addEventListener("click", (event) => {
      const cell = this.cell(event);
      if (cell) this.drawn?.choose(...cell);
    });
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("blur", () => {
      this.cursor = null;
      if (this.drawn) this.draw(this.drawn);
    });
  }

  destroy(): void {
    this.sizes.disconnect();
  }

  private get size(): { wide: number; high: number; cell: [number, number] } {
    const { map } = this.drawn!;
    const { rows, columns } = map;
    const room = Math.max((this.width ||= this.element.clientWidth) - LEFT - 2, 60);
    const across = Math.min(room / columns.length, map.kind === "sites" ? 68 : 40);
    const square = this.drawn!.cube.raw.pairs !== "";
    const down = square ? across : Math.max(3, Math.min(150 / rows.length, 20));
    return { wide: across * columns.length, high: Math.min(down * rows.length, 360), cell: [across, Math.min(down, 360 / rows.length)] };
  }

  draw(drawn: Drawn): void {
    this.drawn = drawn;
    const { cube, map, range: [low, high] } = drawn;
    const { wide, high: tall, cell: [across, down] } = this.size;
    const [width, height] = [Math.ceil(LEFT + wide + 2), Math.ceil(tall + BOTTOM)];
    const scale = Math.max(window.devicePixelRatio || 1, 1);
    if (this.canvas.width !== Math.round(width * scale) || this.canvas.height !== Math.round(height * scale)) {
      [this.canvas.width, this.canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
      [this.canvas.style.width, this.canvas.style.height] = [`${width}px`, `${height}px`];
    }
    this.canvas.setAttribute("aria-label", `${drawn.label}; arrow keys read cells, Enter selects`);
    const to = this.canvas.getContext("2d");
    if (!to) return;
    to.setTransform(scale, 0, 0, scale, 0, 0);
    to.clearRect(0, 0, width, height);
    const values = cube.values;
    const gap = across > 7 && down > 5 ? 1 : 0;
    map.at.forEach((at, i) => {
      const [row, column] = [Math.floor(i / map.columns.length), i % map.columns.length];
      const [x, y] = [LEFT + Math.round(column * across), Math.round(row * down)];
      const [cellWide, cellHigh] = [LEFT + Math.round((column + 1) * across) - x - gap, Math.round((row + 1) * down) - y - gap];
      const value = values[at]!;
      if (Number.isFinite(value)) to.fillStyle = css(viridis((value - low) / (high - low)));
      else if (cube.reason(at) === null) return;
      else to.fillStyle = styled("--undefined");
      to.fillRect(x, y, cellWide, cellHigh);
      if (!Number.isFinite(value)) cross(to, x, y, cellWide, cellHigh, styled("--muted"));
    });
    to.strokeStyle = styled("--needle");
    to.lineWidth = 1.5;
    const marked = drawn.column >= 0 ? drawn.column : map.present;
    if (drawn.rows.size < map.rows.length) {
      for (const row of drawn.rows) {
        if (marked >= 0 && map.kind !== "steps") to.strokeRect(LEFT + marked * across, row * down, across - gap, down - gap);
        else to.strokeRect(LEFT, row * down, wide - gap, down - gap);
      }
    } else if (marked >= 0 && map.kind !== "steps") to.strokeRect(LEFT + marked * across, 0, across - gap, tall - gap);
    if (map.present >= 0) to.strokeRect(LEFT + map.present * across, 0, across - gap, tall - gap);
    if (this.cursor) {
      to.strokeStyle = styled("--ink");
      to.strokeRect(LEFT + this.cursor[1] * across, this.cursor[0] * down, across - gap, down - gap);
    }
    this.name(to, styled("--muted"), styled("--sans"), across, down, tall);
  }

  private name(to: CanvasRenderingContext2D, ink: string, font: string, across: number, down: number, tall: number): void {
    const { rows, columns } = this.drawn!.map;
    to.fillStyle = ink;
    to.font = `10px ${font}`;
    to.textBaseline = "middle";
    to.textAlign = "right";
    const everyRow = Math.max(1, Math.ceil(11 / down));
    rows.forEach((row, i) => {
      if (i % everyRow === 0) to.fillText(String(row), LEFT - 5, Math.max((i + 0.5) * down, 5));
    });
    to.textAlign = "center";
    const widest = Math.max(...columns.map((one) => to.measureText(String(one)).width));
    const every = Math.max(1, Math.ceil((widest + 5) / across));
    columns.forEach((column, i) => {
      if (i % every === 0) to.fillText(String(column), LEFT + (i + 0.5) * across, tall + 9);
    });
  }

  private cell(event: MouseEvent): [number, number] | null {
    if (!this.drawn) return null;
    const box = this.canvas.getBoundingClientRect();
    const { cell: [across, down] } = this.size;
    const [row, column] = [Math.floor((event.clientY - box.top) / down), Math.floor((event.clientX - box.left - LEFT) / across)];
    const { rows, columns } = this.drawn.map;
    return row >= 0 && column >= 0 && row < rows.length && column < columns.length ? [row, column] : null;
  }

  private words(row: number, column: number): string[] {
    const { cube, map } = this.drawn!;
    const at = map.at[row * map.columns.length + column]!;
    const value = cube.values[at]!;
    const where = [named(map.rowAxis, map.rows[row] ?? null), named(map.columnAxis, map.columns[column] ?? null)];
    const reason = cube.reason(at);
    return [where.join(", "), Number.isFinite(value) ? number(value) : reason ? `undefined: ${reason}` : "not measured"];
  }

  private hover(event: MouseEvent): void {
    const cell = this.cell(event);
    if (cell) showTip(event.clientX, event.clientY, this.words(...cell));
    else hideTip();
  }

  private key(event: KeyboardEvent): void {
    const moves: Record<string, [number, number]> = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const move = moves[event.key];
    if (!this.drawn) return;
    if (event.key === "Enter" && this.cursor) {
      this.drawn.choose(...this.cursor);
    } else if (move) {
      const { rows, columns } = this.drawn.map;
      const [row, column] = this.cursor ?? [-move[0], -move[1]];
      this.cursor = [
        Math.min(Math.max(row + move[0], 0), rows.length - 1), Math.min(Math.max(column + move[1], 0), columns.length - 1),
      ];
      this.draw(this.drawn);
      announce(this.words(...this.cursor).join(": "));
    } else return;
    event.preventDefault();
  }
}

/** What has no value is crossed out. */
function cross(to: CanvasRenderingContext2D, x: number, y: number, wide: number, high: number, ink: string): void {
  to.strokeStyle = ink;
  to.lineWidth = 0.75;
  to.beginPath();
  to.moveTo(x + 1, y + high - 1);
  to.lineTo(x + wide - 1, y + 1);
  to.stroke();
}

/** The colours of a map and what they stand for. */
export function legend(range: [number, number]): HTMLElement {
  const bar = el("canvas", { width: 128, height: 1, class: "ramp", "aria-hidden": "true" });
  const to = bar.getContext("2d");
  for (let i = 0; to && i < 128; i++) {
    to.fillStyle = css(viridis(i / 127));
    to.fillRect(i, 0, 1, 1);
  }
  return el("div", { class: "legend" }, el("span", {}, number(range[0])), bar, el("span", {}, number(range[1])));
}
