import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { defineConfig, type Plugin } from "vite";

const ROOM = import.meta.dirname;

/** Digest of everything that the build is made of: a test of Python's compares it with the sources beside it. */
function sources(): string {
  const names = readdirSync(join(ROOM, "src")).sort().map((name) => `src/${name}`);
  const found = createHash("sha256");
  for (const name of [...names, "package-lock.json", "vite.config.ts"]) found.update(`${name}\n`).update(readFileSync(join(ROOM, name)));
  return found.digest("hex");
}

/** The licences of what is inlined stand in the file, where a minifier leaves them. */
function licences(): Plugin {
  const uplot = readFileSync(join(ROOM, "node_modules/uplot/LICENSE"), "utf8").trim();
  const banner = `/*!\nPico report. Apache-2.0, the Pico developers. Built from sources ${sources()}.\n\nuPlot. ${uplot}\n*/\n`;
  return {
    name: "licences",
    generateBundle(_, bundle) {
      for (const one of Object.values(bundle)) {
        if (one.type === "chunk") one.code = banner + one.code;
        else if (one.fileName.endsWith(".css")) one.source = `/*! Pico report, Apache-2.0; with the style sheet of uPlot, MIT */\n${one.source}`;
      }
    },
  };
}

export default defineConfig({
  plugins: [licences()],
  build: {
    outDir: process.env["REPORT_ASSETS"] ?? "../src/pico_analyze/output/report/assets",
    emptyOutDir: true,
    target: "es2022",
    cssTarget: "chrome111",
    reportCompressedSize: false,
    lib: { entry: "src/main.ts", formats: ["iife"], name: "PicoReport", fileName: () => "report.js", cssFileName: "report" },
  },
});
