// What is stored of models on this device: use, export, delete, import. Knows no page.

import { models, type StoredModel } from "kinglet";
import { button, iconButton, make, saveFile } from "./dom.js";
import { bytes } from "./format.js";
import { catalogued } from "./models.js";

export interface StoredActions {
  use(name: string): void;
  /** Something was deleted or imported. */
  changed(): void;
  failed(error: unknown): void;
  /** What goes on, in words; "" when it is over. */
  busy(text: string): void;
  /** The hub of the catalogue's files, if it is another. */
  hub: string | undefined;
}

export async function showStored(root: HTMLElement, summary: HTMLElement, stored: readonly StoredModel[], actions: StoredActions): Promise<void> {
  root.replaceChildren(...stored.map((model) => entry(model, actions)));
  const { usage, quota } = (await navigator.storage?.estimate?.().catch(() => undefined)) ?? {};
  const used = stored.reduce((sum, { storedBytes }) => sum + storedBytes, 0);
  const room = usage !== undefined && quota ? `, and the browser grants ${bytes(Math.max(0, quota - usage))} more` : "";
  summary.textContent = stored.length > 0 ? `${bytes(used)} of models${room}.` : `Nothing yet${room}. What you download is kept here and works without a network.`;
}

function entry(stored: StoredModel, actions: StoredActions): HTMLElement {
  const { model, complete, storedBytes, bytes: whole, verified } = stored;
  const known = catalogued(model);
  const name = known ? `${known.model.name}, ${known.file.quantization}` : model.replace(/^local:/, "").split("/").pop()!;
  const state = complete ? `${bytes(storedBytes)}${verified ? " · verified" : ""}` : `${bytes(storedBytes)}${whole ? ` of ${bytes(whole)}` : ""} downloaded`;
  const guarded = (act: () => Promise<unknown>) => () => void act().then(() => actions.changed(), actions.failed);
  const hub = actions.hub ? { hub: actions.hub } : {};
  return make("li", {},
    make("div", { class: "entry-text" }, make("p", { class: "entry-title" }, make("b", {}, name)), make("p", { class: "hint" }, state)),
    make("div", { class: "entry-actions" },
      button(complete ? "Use" : "Resume", () => actions.use(model), { "aria-label": `${complete ? "Use" : "Resume"}: ${name}` }),
      ...(complete ? [button("Export", guarded(async () => (await models.export(model, hub)).forEach((file) => saveFile(file.name, file))), { "aria-label": `Export: ${name}` })] : []),
      iconButton("remove", `Delete: ${name}`, guarded(() => models.delete(model, hub))),
    ),
  );
}

/** Keeps files on this device, under the first one's name, which it returns. */
export async function importFiles(files: File[], actions: Pick<StoredActions, "busy">): Promise<string> {
  const sorted = [...files].sort((a, b) => a.name.localeCompare(b.name));
  const name = `local:${sorted[0]!.name}`;
  try {
    await models.import(name, sorted.length === 1 ? sorted[0]! : sorted, {
      onProgress: ({ loaded, total }) => actions.busy(`Storing ${sorted[0]!.name}: ${bytes(loaded)}${total ? ` of ${bytes(total)}` : ""}`),
    });
  } finally {
    actions.busy("");
  }
  return name;
}

export async function deleteAll(stored: readonly StoredModel[], hub: string | undefined): Promise<void> {
  for (const { model } of stored) await models.delete(model, hub ? { hub } : {});
}
