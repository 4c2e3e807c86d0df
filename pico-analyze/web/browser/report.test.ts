import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { launch, open, picture } from "./browser";

let browser: Browser;
beforeAll(async () => {
  browser = await launch();
});
afterAll(() => browser?.close());

const panel = (page: Page, name: string) => page.locator(`.panel[id^="${name}:"]`).first();
const hash = (page: Page) => page.evaluate(() => location.hash);
const settled = (page: Page) => page.waitForTimeout(250);

async function inSight(page: Page, name: string): Promise<void> {
  await panel(page, name).scrollIntoViewIfNeeded();
  await panel(page, name).locator("canvas").first().waitFor();
}

describe("the page of a run", () => {
  it("selects a layer in every panel, from the strip and from a map, and says so in the address", async () => {
    const { page, faults } = await open(browser, "run");
    await inSight(page, "norm");
    const opener = panel(page, "norm").getByRole("button", { name: /as a table/ });
    await opener.click();
    const header = panel(page, "norm").locator(".behind thead th");
    expect(await header.allTextContents()).toEqual(["step", "layer 0", "layer 1"]);
    await page.getByRole("button", { name: "layer 1", exact: true }).click();
    expect(await header.allTextContents()).toEqual(["step", "layer 1"]);
    await settled(page);
    expect(await hash(page)).toContain("layer=1");
    const map = panel(page, "norm").locator("canvas.map");
    await map.focus();
    for (const key of ["ArrowDown", "ArrowRight", "ArrowRight", "Enter"]) await page.keyboard.press(key);
    await settled(page);
    expect(await hash(page)).toMatch(/layer=\d&head=\d/);
    expect(faults).toEqual([]);
    await page.close();
  });

  it("folds the results of parts of tasks, and draws them when they are opened", async () => {
    const { page, faults } = await open(browser, "run");
    const titles = page.locator("#training > .panel h3");
    expect((await titles.allTextContents()).at(-1)).toBe("pairs accuracy");
    const parts = page.locator("#training details.parts");
    expect(await parts.locator("summary").textContent()).toBe("2 results of parts of tasks");
    expect(await parts.locator(".panel").first().isVisible()).toBe(false);
    await parts.locator("summary").click();
    await parts.locator(".panel").first().scrollIntoViewIfNeeded();
    await parts.locator("canvas").first().waitFor();
    expect(await parts.locator("h3").allTextContents()).toContain("pairs/agreement accuracy");
    expect(faults).toEqual([]);
    await page.close();
  });

  it("moves through steps by slider, by keys and by playing", async () => {
    const { page, faults } = await open(browser, "run");
    const slider = page.getByRole("slider", { name: "Step" });
    await slider.focus();
    await page.keyboard.press("Home");
    expect(await slider.getAttribute("aria-valuetext")).toBe("step 0");
    await inSight(page, "norm");
    const frame = panel(page, "norm").locator(".frame");
    await frame.focus();
    await page.keyboard.press("ArrowRight");
    expect(await slider.getAttribute("aria-valuetext")).not.toBe("step 0");
    const needle = await panel(page, "norm").locator(".needle").boundingBox();
    await page.keyboard.press("ArrowRight");
    expect((await panel(page, "norm").locator(".needle").boundingBox())!.x).toBeGreaterThan(needle!.x);
    await page.getByRole("button", { name: "Play the steps" }).click();
    await page.waitForFunction((before) => document.querySelector("input[type=range]")!.getAttribute("aria-valuetext") !== before, await slider.getAttribute("aria-valuetext"));
    expect(faults).toEqual([]);
    await page.close();
  });

  it("tells the value under the pointer", async () => {
    const { page, faults } = await open(browser, "run");
    await inSight(page, "norm");
    const box = (await panel(page, "norm").locator(".u-over").boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.move(box.x + box.width / 2 + 3, box.y + box.height / 2);
    expect(await page.locator(".tip").innerText()).toMatch(/layer \d\nstep [\d,]+\n-?[\d.]+/);
    await page.getByRole("combobox", { name: "over", exact: true }).selectOption("tokens");
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.move(box.x + box.width / 2 + 3, box.y + box.height / 2);
    expect(await page.locator(".tip").innerText()).toMatch(/step [\d,]+ · [\d.]+k? tokens/);
    await settled(page);
    expect(await hash(page)).toContain("x=tokens");
    expect(faults).toEqual([]);
    await page.close();
  });

  it("shows the view that an address cites, and a finding leads to its panel", async () => {
    const { page, faults } = await open(browser, "run", "#metric=norm&layer=1&head=2&step=1&lines=heads");
    await inSight(page, "norm");
    await panel(page, "norm").getByRole("button", { name: /as a table/ }).click();
    expect((await panel(page, "norm").locator(".behind thead th").allTextContents()).slice(1)).toEqual(["whole", "head 0", "head 1", "head 2", "head 3"]);
    expect(await page.getByRole("slider", { name: "Step" }).getAttribute("aria-valuetext")).toBe("step 1");
    await page.reload();
    await page.waitForSelector("html[data-ready]");
    expect(await hash(page)).toContain("head=2");
    await page.evaluate(() => scrollTo(0, 0));
    await page.getByRole("link", { name: "layer 1 moves most" }).click();
    await settled(page);
    expect(await hash(page)).toBe("#metric=norm&layer=1&step=1");
    expect(await panel(page, "norm").evaluate((one) => one.getBoundingClientRect().top < innerHeight)).toBe(true);
    expect(faults).toEqual([]);
    await page.close();
  });

  it("keeps many findings of several runs behind a fold for each run but the first", async () => {
    const { page, faults } = await open(browser, "several");
    const findings = page.getByRole("region", { name: "Findings" });
    expect(await findings.locator("summary").allTextContents()).toEqual(["seed0: 5 findings", "seed1: 5 findings", "seed2: 5 findings"]);
    expect(await findings.getByRole("link").count()).toBe(5);
    await findings.getByText("seed2: 5 findings").click();
    await findings.getByRole("link", { name: "seed2: layer 1 moves" }).click();
    await settled(page);
    expect(await hash(page)).toContain("layer=1");
    expect(faults).toEqual([]);
    await page.close();
  });

  it("filters and sorts rows, and downloads exactly them", async () => {
    const { page, faults } = await open(browser, "run");
    await page.locator("#table").scrollIntoViewIfNeeded();
    const told = page.locator(".table-head > .of");
    await page.getByRole("searchbox", { name: "Filter rows" }).fill("norm layer=1 head=2");
    await expect.poll(() => told.innerText()).toBe("5 rows");
    await page.getByRole("button", { name: "value", exact: true }).click();
    expect(await page.locator('th[data-column="value"]').getAttribute("aria-sort")).toBe("ascending");
    const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Download CSV" }).click()]);
    expect(download.suggestedFilename()).toBe("pico-demo.csv");
    const lines = (await readFile(await download.path(), "utf8")).trim().split("\n");
    expect(lines.length).toBe(6);
    const at = lines[0]!.split(",").indexOf("value");
    const values = lines.slice(1).map((line) => Number(line.split(",")[at]));
    expect([...values].sort((a, b) => a - b)).toEqual(values);
    expect(faults).toEqual([]);
    await page.close();
  });
});

describe("what is bad", () => {
  it("is said in its panel: undefined values, one step, one layer, an empty table", async () => {
    const { page, faults } = await open(browser, "undefined");
    await page.evaluate(() => document.querySelectorAll(".panel").forEach((one) => one.scrollIntoView()));
    await inSight(page, "norm");
    await panel(page, "cka").scrollIntoViewIfNeeded();
    await expect.poll(() => panel(page, "cka").innerText()).toContain("Undefined everywhere: fewer samples than are needed");
    for (const name of ["gini", "hoyer", "per", "invented"]) await inSight(page, name);
    await page.getByRole("combobox", { name: "site", exact: true }).selectOption("mlp.up");
    await panel(page, "cka").scrollIntoViewIfNeeded();
    await expect.poll(() => panel(page, "cka").innerText()).toContain("drawn: debiased");
    expect(await panel(page, "gini").innerText()).not.toContain("mlp.up");
    await picture(page, "undefined");
    const empty = await open(browser, "empty");
    expect(await empty.page.locator("#measures").innerText()).toContain("Nothing was computed of these runs yet");
    await empty.page.locator("#table").scrollIntoViewIfNeeded();
    await empty.page.getByText("There are no rows").waitFor();
    expect([...faults, ...empty.faults]).toEqual([]);
    await Promise.all([page.close(), empty.page.close()]);
  });

  it("is text, whatever names and tokens are, and a policy allows no other script", async () => {
    const { page, faults } = await open(browser, "hostile");
    await page.locator("#tokens").scrollIntoViewIfNeeded();
    expect(await page.title()).toContain("<img src=x onerror=");
    expect(await page.locator("h1").innerText()).toBe("<img src=x onerror=document.title=1>");
    const tokens = await page.locator(".tokens").innerText();
    for (const text of ["</script><script>document.title=2</script>", "<!-- ", "שלום עולם", "👩‍🔬", "&lt;b&gt;"]) expect(tokens).toContain(text);
    expect(await page.locator("img").count()).toBe(0);
    expect(await page.locator("script").count()).toBe(2); // the document and the front end
    const policy = await page.locator('meta[http-equiv="Content-Security-Policy"]').getAttribute("content");
    expect(policy).toMatch(/^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; img-src data:; base-uri 'none'; form-action 'none'$/);
    expect(faults).toEqual([]);
    const blocked = await page.evaluate(() => {
      const script = document.createElement("script");
      script.textContent = "document.documentElement.dataset.ran = '1'";
      document.body.append(script);
      return document.documentElement.dataset["ran"] === undefined;
    });
    expect(blocked).toBe(true);
    await page.close();
  });
});

describe("several runs", () => {
  it("stand side by side on one scale, or are lines of one chart", async () => {
    const { page, faults } = await open(browser, "several");
    await inSight(page, "cka");
    expect(await panel(page, "cka").locator(".facet .caption").allTextContents()).toEqual(["seed0", "seed1", "seed2"]);
    await picture(page, "several");
    await page.getByRole("combobox", { name: "lines", exact: true }).selectOption("runs");
    await page.getByRole("button", { name: "layer 0", exact: true }).click();
    await panel(page, "cka").getByRole("button", { name: /as a table/ }).click();
    expect((await panel(page, "cka").locator(".behind thead th").allTextContents()).slice(1)).toEqual(["seed0", "seed1", "seed2"]);
    await page.getByRole("button", { name: "seed1", exact: true }).click();
    expect((await panel(page, "cka").locator(".behind thead th").allTextContents()).slice(1)).toEqual(["seed0", "seed2"]);
    expect(faults).toEqual([]);
    await page.close();
  });
});

describe("everyone", () => {
  const axe = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
  for (const [name, part, options] of [
    ["run", "light", {}], ["run", "dark", { colorScheme: "dark" as const }], ["deep", "deep", {}],
    ["run", "phone", { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
  ] as const) {
    it(`finds no serious fault of access: ${part}`, async () => {
      const { page, faults } = await open(browser, name, "", options);
      await page.evaluate(async () => {
        for (const one of document.querySelectorAll("section, .panel")) {
          one.scrollIntoView();
          await new Promise((done) => setTimeout(done, 30));
        }
      });
      await page.evaluate(await readFile(axe, "utf8"));
      const found = await page.evaluate(async () => {
        const { axe: run } = window as unknown as { axe: { run: () => Promise<{ violations: { id: string; impact: string; nodes: { html: string }[] }[] }> } };
        const { violations } = await run.run();
        return violations.filter((one) => one.impact === "serious" || one.impact === "critical").map((one) => `${one.id}: ${one.nodes.slice(0, 3).map((node) => node.html).join(" ")}`);
      });
      expect(found).toEqual([]);
      expect(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth)).toBe(true);
      await page.evaluate(() => document.getElementById("measures")!.scrollIntoView());
      await picture(page, part);
      expect(faults).toEqual([]);
      await page.close();
    });
  }

  it("prints every panel, in light colours", async () => {
    const { page, faults } = await open(browser, "run", "", { colorScheme: "dark" });
    await page.emulateMedia({ media: "print", colorScheme: "dark" });
    await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
    const first = page.locator(".layers button").first();
    expect(await first.evaluate((cell) => getComputedStyle(cell).backgroundColor)).toBe("rgb(68, 1, 84)"); // viridis begins
    const pdf = await page.pdf({ format: "A4" });
    expect(pdf.length).toBeGreaterThan(20_000);
    expect(await page.locator(".panel .plot canvas").count()).toBeGreaterThanOrEqual(5);
    expect(await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor)).toBe("rgb(255, 255, 255)");
    expect(faults).toEqual([]);
    await page.close();
  });
});
