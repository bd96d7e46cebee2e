// Where the model's choice comes from and is kept: the address bar, the last visit, files dropped on the page.

import { catalogued, EMBEDDED, type Source } from "./models.js";

const KEY = "kinglet-model";
const parameters = new URLSearchParams(location.search);

/** `?model=` in the page's address, else the choice of the last visit. A file cannot be remembered; what was imported can. */
export function firstSource(): Source {
  const url = parameters.get("model");
  if (url) return { kind: "url", url };
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "null") as { url?: unknown; force?: unknown } | null;
    if (typeof kept?.url === "string") return { kind: "url", url: kept.url, force: kept.force === true };
  } catch {
    // Then the built-in one.
  }
  return EMBEDDED;
}

/** `?seed=` makes the answers repeatable. */
export function seedInAddress(): number | undefined {
  const seed = parameters.get("seed");
  return seed ? Number(seed) : undefined;
}

/** `?hub=`: a mirror of the Hugging Face Hub, for the catalogue's files. */
export const hubInAddress = parameters.get("hub") ?? undefined;

/** So that a reload, or the address sent to someone, opens the same model; and the next visit. */
export function keepChoice(source: Source): void {
  const address = new URL(location.href);
  const shareable = source.kind === "url" && !source.url.startsWith("local:");
  if (shareable) address.searchParams.set("model", source.url);
  else address.searchParams.delete("model");
  history.replaceState(null, "", address);
  rememberChoice(source);
}

/** For the next visit. */
export function rememberChoice(source: Source): void {
  try {
    if (source.kind === "url") localStorage.setItem(KEY, JSON.stringify({ url: source.url, force: source.force }));
    else localStorage.removeItem(KEY);
  } catch {
    // Then for this visit.
  }
}

/** What somebody typed: a name of the catalogue, of the Hub, of what is stored, or an address. */
export function typedSource(text: string): Source {
  const known = catalogued(text);
  return { kind: "url", url: known ? text.toLowerCase() : text };
}

export function setUpDrop(take: (files: File[]) => void): void {
  const carriesFiles = (event: DragEvent) => event.dataTransfer?.types.includes("Files") ?? false;
  const mark = (on: boolean) => document.body.classList.toggle("dropping", on);
  addEventListener("dragover", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(true);
  });
  addEventListener("dragleave", (event) => event.relatedTarget === null && mark(false));
  addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    mark(false);
    const files = [...(event.dataTransfer?.files ?? [])];
    if (files.length > 0) take(files);
  });
}
