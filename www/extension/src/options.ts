// The options: the model, the language, the router's server, the sites that may be read, and deleting it all.

import { models, type StoredModel } from "kinglet";
import { hideError, sentence, showError } from "../../src/alert.js";
import { showCatalogue } from "../../src/catalogue.js";
import { thisDevice } from "../../src/device.js";
import { button, find, make } from "../../src/dom.js";
import { chooser } from "../../src/chooser.js";
import { EMBEDDED, nameOf as nameOfModel, type Source } from "../../src/models.js";
import { firstSource, rememberChoice, typedSource } from "../../src/picker.js";
import { importFiles, showStored } from "../../src/stored.js";
import { eraseAll } from "./erase.js";
import { showRouter } from "./router-options.js";
import { browserLanguage, setTargetLanguage, targetLanguage } from "./settings.js";
import { nameOf } from "./tasks.js";

const LANGUAGES = ["ar", "bn", "cs", "da", "de", "el", "en", "es", "fi", "fr", "he", "hi", "hu", "id", "it", "ja", "ko", "nl", "no", "pl", "pt", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh"];

const failed = (error: unknown) => showError(sentence(error));

function use(source: Source): void {
  hideError();
  rememberChoice(source);
  chrome.runtime.sendMessage({ type: "model" }).catch(() => {}); // no panel is open
  showModel();
}

function showModel(): void {
  find("model").textContent = nameOfModel(firstSource());
}

async function showModels(): Promise<void> {
  const [stored, device] = await Promise.all([models.list(), thisDevice()]);
  showCatalogue(find("catalogue"), device, stored, { use: (url, force) => use({ kind: "url", url, force }) });
  await showStored(find("stored"), find("stored-summary"), stored, {
    use: (url) => use({ kind: "url", url }), changed: () => void afterDeletion(stored).catch(failed), failed, busy, hub: undefined,
  });
}

/** What is gone cannot be begun with. */
async function afterDeletion(before: readonly StoredModel[]): Promise<void> {
  const chosen = firstSource();
  const gone = before.filter(({ model }) => chosen.kind === "url" && model === chosen.url);
  if (gone.length > 0 && !(await models.list()).some(({ model }) => model === gone[0]!.model)) use(EMBEDDED);
  await showModels();
}

const busy = (text: string) => (find("stored-busy").textContent = text);

function setUpModel(): void {
  find("use-embedded").addEventListener("click", () => use(EMBEDDED));
  find("by-url").addEventListener("submit", (event) => {
    event.preventDefault();
    use(typedSource(find<HTMLInputElement>("url").value.trim()));
  });
  chooser("choose-import", "import-model", (files) => void importFiles(files, { busy }).then((url) => (use({ kind: "url", url }), showModels())).catch(failed));
  addEventListener("storage", showModel);
  showModel();
  void showModels().catch(failed);
}

async function setUpLanguage(): Promise<void> {
  const select = find<HTMLSelectElement>("language");
  const chosen = await targetLanguage();
  const all = [...new Set([...LANGUAGES, browserLanguage(), chosen])].map((code) => [code, nameOf(code)] as const).sort((a, b) => a[1].localeCompare(b[1], "en"));
  select.replaceChildren(...all.map(([value, name]) => make("option", { value }, name)));
  select.value = chosen;
  select.addEventListener("change", () => void setTargetLanguage(select.value).catch(failed));
}

async function showSites(): Promise<void> {
  const { origins = [] } = await chrome.permissions.getAll();
  find("sites").replaceChildren(...origins.map((origin) => make("li", {}, make("span", { class: "entry-text" }, origin.replace(/\/\*$/, "")),
    button("Remove", () => void chrome.permissions.remove({ origins: [origin] }).catch(failed), { "aria-label": `Remove ${origin}` }))));
  find("no-sites").hidden = origins.length > 0;
}

function setUpSites(): void {
  const show = () => void showSites().catch(failed);
  chrome.permissions.onAdded.addListener(show);
  chrome.permissions.onRemoved.addListener(show);
  show();
}

function setUpErasing(): void {
  const state = find("erase-state");
  find("erase").addEventListener("click", () => {
    if (!confirm("Delete all conversations, models, settings and permissions of Kinglet from this device?")) return;
    hideError();
    state.textContent = "Deleting…";
    eraseAll().then(() => location.replace("erased.html"), (error: unknown) => {
      state.textContent = "";
      showError(sentence(error, "Not everything was deleted"));
    });
  });
}

setUpModel();
setUpSites();
setUpErasing();
void setUpLanguage().catch(failed);
void showRouter(find("router"), find("router-state")).catch(failed);
