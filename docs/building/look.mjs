// Looks at every page of the built site in a headless Chromium, on a desk and on a phone: `node look.mjs SITE`, where
// playwright-core can be found from the working directory and CHROMIUM names the browser. Nothing may be asked of another
// host, nothing may fail, no page may be wider than the screen; formulas, search and a report of the gallery have to work.

import { createReadStream, existsSync, readdirSync, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname, join, normalize } from "node:path";
import process from "node:process";

const { chromium } = createRequire(join(process.cwd(), "package.json"))("playwright-core");
const site = process.argv[2];
const kinds = {
  ".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".json": "application/json",
  ".png": "image/png", ".svg": "image/svg+xml", ".woff2": "font/woff2", ".xml": "text/xml",
};

const server = createServer((request, response) => {
  const path = normalize(decodeURIComponent(new URL(request.url, "http://x").pathname));
  const file = join(site, path.endsWith("/") ? `${path}index.html` : path);
  if (!file.startsWith(site) || !existsSync(file) || statSync(file).isDirectory()) {
    response.writeHead(404).end();
    return;
  }
  response.writeHead(200, { "content-type": kinds[extname(file)] ?? "application/octet-stream" });
  createReadStream(file).pipe(response);
});
await new Promise((ready) => server.listen(0, "127.0.0.1", ready));
const base = `http://127.0.0.1:${server.address().port}/`;

const faults = [];
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });

async function opened(width, height) {
  const page = await (await browser.newContext({ viewport: { width, height } })).newPage();
  page.setDefaultTimeout(120_000);
  const tell = (what) => faults.push(`${page.url().replace(base, "")} (${width} wide): ${what}`);
  page.on("request", (request) => {
    if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) tell(`asks for ${request.url()}`);
  });
  page.on("response", (response) => response.status() >= 400 && tell(`${response.status()} for ${response.url()}`));
  page.on("pageerror", (error) => tell(String(error)));
  return page;
}

const pages = readdirSync(site, { recursive: true }).filter((path) => path.endsWith(".html") && path !== "404.html").sort();
for (const [width, height] of [[1280, 860], [390, 844]]) {
  const page = await opened(width, height);
  for (const path of pages) {
    await page.goto(base + path);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (over > 0) faults.push(`${path} (${width} wide): ${over} pixels wider than the screen`);
  }
  await page.context().close();
}

const page = await opened(1280, 860);
await page.goto(`${base}reference/metrics.html`);
const formulas = await page.evaluate(async () => {
  await document.fonts.ready;
  const loaded = [...document.fonts].some((font) => font.family.includes("KaTeX") && font.status === "loaded");
  return { count: document.querySelectorAll(".formula .katex-html").length, loaded };
});
if (!formulas.count || !formulas.loaded) faults.push(`metrics: formulas are not shown: ${JSON.stringify(formulas)}`);
await page.goto(`${base}index.html`);
await page.click(".md-search__input");
await page.keyboard.type("effective rank", { delay: 20 });
await page.waitForSelector(".md-search-result__item").catch(() => faults.push("search finds nothing"));
await page.goto(`${base}gallery.html`);
await page.click("article a[href$='two-seeds.html']");
await page.locator(".panel").first().scrollIntoViewIfNeeded();
await page.locator(".panel canvas").first().waitFor().catch(() => faults.push("the gallery's report draws nothing"));
await browser.close();
server.close();
faults.forEach((fault) => console.log(fault));
console.log(`${pages.length} pages looked at, ${formulas.count} formulas, ${faults.length} faults`);
process.exit(faults.length ? 1 : 0);
