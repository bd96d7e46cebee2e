// Making elements. Text always goes in as text, never as markup.

export function find<T extends HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element as T;
}

export function make<K extends keyof HTMLElementTagNameMap>(tag: K, attributes: Record<string, string> = {}, ...children: (Node | string)[]): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export function button(label: string, onClick: () => void, attributes: Record<string, string> = {}): HTMLButtonElement {
  const element = make("button", { type: "button", ...attributes }, label);
  element.addEventListener("click", onClick);
  return element;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag: string, attributes: Record<string, string | number>, ...children: Node[]): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/** Outlines on a grid of 20. */
const ICONS = {
  copy: "M7 7V4.5A1.5 1.5 0 0 1 8.5 3h7A1.5 1.5 0 0 1 17 4.5v7a1.5 1.5 0 0 1-1.5 1.5H13M4.5 7h7A1.5 1.5 0 0 1 13 8.5v7a1.5 1.5 0 0 1-1.5 1.5h-7A1.5 1.5 0 0 1 3 15.5v-7A1.5 1.5 0 0 1 4.5 7z",
  done: "M4 10.5l4 4 8-9",
  retry: "M16 10a6 6 0 1 1-1.8-4.3M16 3.5v3h-3",
  edit: "M4 16l.8-3.4L13.4 4a1.4 1.4 0 0 1 2 0l.6.6a1.4 1.4 0 0 1 0 2L7.4 15.2z",
  resume: "M5 4v12M9 5l7 5-7 5z",
  remove: "M5.5 6.5l.7 9h7.6l.7-9M4 6h12M8 6V4h4v2",
} as const;

/** A button that is only a picture: what it contains has no text, so that a message's text stays the model's. */
export function iconButton(icon: keyof typeof ICONS, label: string, onClick: () => void): HTMLButtonElement {
  const element = make("button", { type: "button", class: "icon", "aria-label": label, title: label });
  element.append(svg("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, svg("path", { d: ICONS[icon] })));
  element.addEventListener("click", onClick);
  return element;
}

/** Copies, and shows for a moment that it did. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const element = iconButton("copy", label, () => {
    navigator.clipboard.writeText(text()).then(() => state("done", "Copied"), () => state("copy", "The browser did not allow copying"));
  });
  const state = (icon: keyof typeof ICONS, said: string) => {
    const path = element.querySelector("path")!;
    path.setAttribute("d", ICONS[icon]);
    element.setAttribute("aria-label", said);
    element.title = said;
    setTimeout(() => {
      path.setAttribute("d", ICONS.copy);
      element.setAttribute("aria-label", label);
      element.title = label;
    }, 1500);
  };
  return element;
}

/** Hands a text to the person as a file. */
export function saveFile(name: string, content: Blob): void {
  const address = URL.createObjectURL(content);
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
