// The models that people use, with what each needs and whether it runs here, before anything is downloaded. Knows no page.

import type { StoredModel } from "kinglet";
import { catalog, type CatalogFile, type CatalogModel } from "kinglet/catalog";
import { largestThatRuns, needsOf, verdict, type Device, type Verdict } from "./device.js";
import { button, make } from "./dom.js";
import { bytes, short } from "./format.js";

export interface CatalogueActions {
  /** `force`: although it may be too much. */
  use(name: string, force: boolean): void;
}

const ANSWERS: Record<Verdict["answer"], string> = { yes: "Runs here", tight: "Runs here, tight", risky: "Probably too large", no: "Too large" };
/** What to begin with is no download of many minutes. */
const SUGGESTED_BYTES = 1.2e9;

export function showCatalogue(root: HTMLElement, device: Device, stored: readonly StoredModel[], actions: CatalogueActions): void {
  const suggested = largestThatRuns(device, SUGGESTED_BYTES)?.model;
  root.replaceChildren(...catalog.map((model) => entry(model, device, stored, model === suggested, actions)));
}

function entry(model: CatalogModel, device: Device, stored: readonly StoredModel[], suggested: boolean, actions: CatalogueActions): HTMLElement {
  const badge = make("span", { class: "badge" });
  const facts = make("p", { class: "hint" });
  const act = button("", () => {});
  const choice = make("select", { "aria-label": `Quantization of ${model.name}` }, ...model.files.map(({ quantization }) => make("option", {}, quantization)));
  let chosen: CatalogFile;
  let judged: Verdict;
  act.addEventListener("click", () => actions.use(`${model.id}:${chosen.quantization.toLowerCase()}`, judged.answer === "risky"));
  const update = () => {
    chosen = model.files[Math.max(0, choice.selectedIndex)]!;
    judged = verdict(needsOf(chosen), device);
    badge.textContent = ANSWERS[judged.answer];
    badge.className = `badge ${judged.answer}`;
    badge.title = judged.why;
    facts.replaceChildren(
      `${short(model.parameters).replace("G", "B")} parameters · ${model.files.length > 1 ? "" : `${chosen.quantization} · `}${bytes(chosen.bytes)} to download · ${bytes(judged.bytes)} of memory${judged.where ? ` (${judged.where.toUpperCase()})` : ""} · `,
      make("a", { href: model.licence.url, target: "_blank", rel: "noopener noreferrer" }, `${model.licence.id} licence`),
      ...(judged.answer === "yes" ? [] : [make("br"), judged.why]),
    );
    const here = stored.find(({ model: name }) => name === `hf:${chosen.repository}/${chosen.file}`);
    const label = judged.answer === "risky" ? "Load anyway" : here?.complete ? "Use" : here ? "Resume" : "Download";
    act.textContent = label;
    act.setAttribute("aria-label", `${label}: ${model.name}`);
    act.disabled = judged.answer === "no";
  };
  choice.addEventListener("change", update);
  update();
  const title = make("p", { class: "entry-title" }, make("b", {}, model.name), badge, ...(suggested ? [make("span", { class: "badge suggested" }, "A good start here")] : []));
  return make("li", {}, make("div", { class: "entry-text" }, title, facts), make("div", { class: "entry-actions" }, ...(model.files.length > 1 ? [choice] : []), act));
}
