/** Elements with text. Text is set as text, never as markup: names and tokens come from anywhere. */

type Child = Node | string | null | false | undefined;
type Attributes = Record<string, string | number | boolean | EventListener | undefined>;

export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K, attributes: Attributes = {}, ...children: Child[]
): HTMLElementTagNameMap[K] {
  const found = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === false) continue;
    if (typeof value === "function") found.addEventListener(name, value);
    else found.setAttribute(name, value === true ? "" : String(value));
  }
  add(found, ...children);
  return found;
}

export function add(parent: Element, ...children: Child[]): void {
  for (const child of children) if (child !== null && child !== undefined && child !== false) parent.append(child);
}

export function replace(parent: Element, ...children: Child[]): void {
  parent.replaceChildren();
  add(parent, ...children);
}

export function button(text: string, press: () => void, attributes: Attributes = {}): HTMLButtonElement {
  const found = el("button", { type: "button", ...attributes }, text);
  found.addEventListener("click", press);
  return found;
}

/** A choice of a few words, as a select; `set` shows one without telling. */
export function choice(
  label: string, options: readonly (readonly [string, string])[], value: string, chosen: (value: string) => void,
): { element: HTMLLabelElement; set: (value: string) => void } {
  const select = el("select", { "aria-label": label });
  for (const [key, text] of options) select.append(el("option", { value: key }, text));
  select.value = value;
  select.addEventListener("change", () => chosen(select.value));
  const element = el("label", { class: "choice" }, el("span", { "aria-hidden": "true" }, label), select);
  return { element, set: (next) => void (select.value = next) };
}

let told: HTMLElement | null = null;

/** Say something to whoever listens to the page rather than looking at it. */
export function announce(text: string): void {
  told ??= document.body.appendChild(el("div", { class: "hidden", role: "status", "aria-live": "polite" }));
  if (told.textContent !== text) told.textContent = text;
}

export function isDark(): boolean {
  return !printing && window.matchMedia("(prefers-color-scheme: dark)").matches;
}

let printing = false;

/** Paper is light, whatever the screen is. */
export function setPrinting(now: boolean): void {
  printing = now;
}

const colours = new Map<string, string>();

/** A colour or font of the style sheet, looked up once: asking makes a browser lay the page out. */
export function styled(name: string): string {
  let found = colours.get(name);
  if (found === undefined) {
    found = getComputedStyle(document.documentElement).getPropertyValue(name).trim() || "#888";
    colours.set(name, found);
  }
  return found;
}

/** The style sheet has other colours now: another scheme, or paper. */
export function forgetStyles(): void {
  colours.clear();
}
