// npm install --no-save @observablehq/plot@0.6.17 && node bench/run.mjs: sizes of both candidates, and how fast they react.
import { readFileSync, writeFileSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import { build } from "vite";

const bundle = async (entry) => {
  const outDir = mkdtempSync(join(tmpdir(), "pico-bench-"));
  await build({ configFile: false, logLevel: "error", build: { outDir, target: "es2022", lib: { entry, formats: ["iife"], name: "Bench", fileName: () => "bench.js" } } });
  return readFileSync(join(outDir, "bench.js"), "utf8");
};
const room = mkdtempSync(join(tmpdir(), "pico-bench-"));
for (const [name, source] of [["uplot", 'import uPlot from "uplot"; window.x = uPlot;'], ["plot", 'import * as Plot from "@observablehq/plot"; window.x = Plot;']]) {
  const entry = join(import.meta.dirname, `.${name}.mjs`);
  writeFileSync(entry, source);
  console.log(name, Buffer.byteLength(await bundle(entry)), "bytes");
}
const script = await bundle(join(import.meta.dirname, "candidates.ts"));
writeFileSync(join(room, "bench.html"), `<!doctype html><meta charset=utf-8><body><script>${script.replaceAll("</script", "<\\/script")}</script>`);
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
await page.goto(`file://${join(room, "bench.html")}`);
await page.waitForFunction(() => window.results, null, { timeout: 120000 });
console.log(JSON.stringify(await page.evaluate(() => window.results), (_, value) => (typeof value === "number" ? Math.round(value * 10) / 10 : value)));
await browser.close();
