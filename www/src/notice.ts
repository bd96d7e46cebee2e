// Quiet news above the question: a new version, the offer to install.

import { button, find, make } from "./dom.js";

export function showUpdate(reload: () => void): void {
  const box = find("notice");
  box.replaceChildren(make("span", {}, "A new version of this page is here."), button("Reload", reload, { class: "small" }), button("Later", () => box.replaceChildren(), { class: "quiet small" }));
}

/** Only within the settings: nobody is asked to install anything. */
export function showInstall(install: (() => Promise<void>) | undefined): void {
  const offer = find<HTMLButtonElement>("install");
  offer.hidden = install === undefined;
  offer.onclick = () => void install?.();
}
