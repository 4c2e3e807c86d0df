/** Documents that tests know by hand. */

import type { Document, Name, RawCube, Run } from "../src/document";

export function packed(values: number[]): string {
  return Buffer.from(new Float32Array(values).buffer).toString("base64");
}

/** A cube of one run, site and split: 2 layers × (whole, head 0, head 1) × steps 0, 1, 10; the value is its place. */
export function cube(part: Partial<RawCube> = {}): RawCube {
  const axes: Record<string, Name[]> = { run: ["m"], split: ["val"], site: ["attn.v"], layer: [0, 1], head: [null, 0, 1], step: [0, 1, 10], target: [null] };
  return {
    metric: "norm", component: "simple", data: "activations", params: "", axes: axes as RawCube["axes"],
    arrays: { value: packed(Array.from({ length: 18 }, (_, i) => i)) }, reasons: [], codes: null, target: "", pairs: "",
    instead: {}, about: {}, refused: "", ...part,
  };
}

export function run(name: string): Run {
  return {
    name, location: "", kind: "", facts: [], config: [], warnings: [], checkpoints: [], lines: [], batches: null,
    commands: [], provenance: [], tokens: [[0, 10], [0, 1000]],
  };
}

export function document(cubes: RawCube[] = [cube()], runs: Run[] = [run("m")]): Document {
  return { format: 1, version: "2", title: "m", command: "", study: "", notes: [], findings: [], runs, cubes };
}
