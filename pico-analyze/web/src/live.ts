/** Asks the server that the page came from for a newer document, as long as it is there. */

import type { Document } from "./document";
import { el } from "./dom";

const EVERY_MS = 2000;

/** Ask, beginning with the tag of the document that the page came with. */
export function follow(tag: string, renewed: (found: Document) => void): void {
  const shown = el("div", { class: "live", role: "status" }, "live");
  document.body.append(shown);
  const ask = async (): Promise<void> => {
    try {
      const answer = await fetch("document", { headers: { "If-None-Match": tag }, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag") ?? "";
        renewed((await answer.json()) as Document);
      }
      shown.textContent = "live";
      delete shown.dataset["lost"];
    } catch {
      shown.textContent = "the server has ended: this is the last that it said";
      shown.dataset["lost"] = "1";
    }
    window.setTimeout(() => void ask(), EVERY_MS);
  };
  window.setTimeout(() => void ask(), EVERY_MS);
}
