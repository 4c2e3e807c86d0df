/** A headless Chromium, and pages in it that fail a test when they say or ask for anything. */

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium, type Browser, type Page } from "playwright-core";

const PLACES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome", "/opt/google/chrome/chrome"];
/** Where `pages.py` wrote the pages, and where pictures go. */
export const PAGES = process.env["REPORT_PAGES"] ?? "/tmp/pico-report-pages";
export const PICTURES = process.env["REPORT_PICTURES"] ?? "";

export async function launch(): Promise<Browser> {
  const executablePath = process.env["CHROMIUM"] ?? PLACES.find((place) => existsSync(place));
  if (!executablePath) throw new Error("no Chromium is installed: apt-get install chromium, or name one in CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox"] }); // what is opened is our own, and containers have no sandbox
}

export interface Opened {
  page: Page;
  /** What went wrong: errors, messages on the console, requests beside the file itself. */
  faults: string[];
}

export async function open(browser: Browser, name: string, hash = "", options: Parameters<Browser["newPage"]>[0] = {}): Promise<Opened> {
  const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, reducedMotion: "reduce", ...options });
  const faults: string[] = [];
  const address = name.startsWith("http") ? name : pathToFileURL(join(PAGES, `${name}.html`)).href;
  page.on("console", (message) => faults.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => faults.push(`error: ${error.message}`));
  page.on("request", (request) => {
    const url = request.url();
    if (url !== address && !url.startsWith(address) && !url.startsWith("blob:") && !url.startsWith("data:")) faults.push(`request: ${url}`);
  });
  page.on("dialog", (dialog) => {
    faults.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  await page.goto(address + hash);
  await page.waitForSelector("html[data-ready]");
  return { page, faults };
}

export async function picture(page: Page, name: string): Promise<void> {
  if (!PICTURES) return;
  mkdirSync(PICTURES, { recursive: true });
  await page.screenshot({ path: join(PICTURES, `${name}.png`) });
}
