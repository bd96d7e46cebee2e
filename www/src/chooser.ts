// A button that stands for a hidden file input.

import { find } from "./dom.js";

export function chooser(buttonId: string, inputId: string, take: (files: File[]) => void): void {
  const input = find<HTMLInputElement>(inputId);
  find(buttonId).addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    const files = [...(input.files ?? [])];
    input.value = ""; // the same file may be chosen again
    if (files.length > 0) take(files);
  });
}
