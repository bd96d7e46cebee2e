// Choosing a model: the dialog, files dropped on the page, the address bar.

import { find } from "./dom.js";
import { EMBEDDED, type Source } from "./models.js";

const dialog = find<HTMLDialogElement>("models");

/** `?model=` in the page's address. */
export function sourceInAddress(): Source {
  const url = new URLSearchParams(location.search).get("model");
  return url ? { kind: "url", url } : EMBEDDED;
}

/** `?seed=` makes the answers repeatable. */
export function seedInAddress(): number | undefined {
  const seed = new URLSearchParams(location.search).get("seed");
  return seed ? Number(seed) : undefined;
}

/** So that a reload, or the address sent to someone, opens the same model. */
export function keepInAddress(source: Source): void {
  const address = new URL(location.href);
  if (source.kind === "url") address.searchParams.set("model", source.url);
  else address.searchParams.delete("model");
  history.replaceState(null, "", address);
}

/** `choose` is called with what the person picks, in whichever way. */
export function setUpPicker(choose: (source: Source) => void, onOpen: () => void): void {
  const pick = (source: Source) => {
    dialog.close();
    choose(source);
  };
  const chooser = find<HTMLInputElement>("file");
  const address = find<HTMLInputElement>("url");
  find("open-models").addEventListener("click", () => (onOpen(), dialog.showModal()));
  find("close-models").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => event.target === dialog && outside(event) && dialog.close());
  find("choose-file").addEventListener("click", () => chooser.click());
  chooser.addEventListener("change", () => {
    const files = [...(chooser.files ?? [])];
    chooser.value = ""; // the same file may be chosen again
    if (files.length > 0) pick({ kind: "file", files });
  });
  find("use-embedded").addEventListener("click", () => pick(EMBEDDED));
  find("by-url").addEventListener("submit", (event) => {
    event.preventDefault();
    pick({ kind: "url", url: address.value.trim() });
  });
  setUpDrop((files) => pick({ kind: "file", files }));
}

function outside(event: MouseEvent): boolean {
  const { left, right, top, bottom } = dialog.getBoundingClientRect();
  return event.clientX < left || event.clientX > right || event.clientY < top || event.clientY > bottom;
}

function setUpDrop(take: (files: File[]) => void): void {
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
