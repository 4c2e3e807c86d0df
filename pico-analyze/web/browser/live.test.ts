import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { expect, it } from "vitest";
import { launch, open } from "./browser";

const ROOM = import.meta.dirname;
const VENV = join(ROOM, "../../../.venv/bin/python");

it("adds what is new, keeps what is selected, and says when its server has ended", async () => {
  const server = spawn(existsSync(VENV) ? VENV : "python3", [join(ROOM, "live.py")], { stdio: ["pipe", "pipe", "inherit"] });
  const browser = await launch();
  try {
    const [address] = (await once(createInterface(server.stdout), "line")) as [string];
    const { page, faults } = await open(browser, address);
    const shown = page.locator(".deck output");
    expect(await shown.innerText()).toContain("3 of 3");
    await page.getByRole("button", { name: "layer 1", exact: true }).click();
    server.stdin.write("\n");
    await expect.poll(() => shown.innerText(), { timeout: 15_000 }).toContain("4 of 4"); // it stood at the last step
    expect(await page.getByRole("button", { name: "layer 1", exact: true }).getAttribute("aria-pressed")).toBe("true");
    expect(await page.getByRole("button", { name: "layer 0", exact: true }).getAttribute("aria-pressed")).toBe("false");
    expect(faults).toEqual([]);
    server.kill();
    await page.getByText("the server has ended").waitFor({ timeout: 15_000 });
  } finally {
    server.kill();
    await browser.close();
  }
});
