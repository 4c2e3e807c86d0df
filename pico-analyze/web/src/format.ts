/** Numbers and names as people read them. */

import type { Name } from "./document";

export function number(value: number): string {
  if (Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e5 || size < 1e-3) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(4)));
}

/** The seven digits that float32 holds. */
export function exact(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(7))) : Number.isNaN(value) ? "" : String(value);
}

/** A count in few letters: 12, 4.1k, 3G. */
export function short(value: number): string {
  for (const [bound, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const) {
    if (Math.abs(value) >= bound) return `${Number((value / bound).toPrecision(3))}${prefix}`;
  }
  return String(Number(value.toPrecision(3)));
}

export function count(value: number): string {
  return value.toLocaleString("en");
}

export function counted(value: number, noun: string): string {
  return `${count(value)} ${noun}${value === 1 ? "" : "s"}`;
}

export function named(axis: string, name: Name): string {
  if (name === null) return axis === "head" ? "whole" : axis === "layer" ? "model" : "–";
  return axis === "layer" || axis === "head" || axis === "step" ? `${axis} ${name}` : String(name);
}
