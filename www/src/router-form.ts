// The form of the router's settings, and where they are kept. Knows no page.

import type { Mode } from "kinglet/router";
import { make } from "./dom.js";

export interface RouterSettings {
  on: boolean;
  url: string;
  model: string;
  mode: Mode;
  /** A short-lived token; "" for none. Kept only where `remember` says so. */
  key: string;
  remember: boolean;
  /** Dollars for a million tokens. */
  priceIn: number;
  priceOut: number;
  /** Dollars a day; 0 for none. */
  budget: number;
  context: "last-turn" | "all";
  /** Words that never leave as they are. */
  terms: string[];
}

export interface Fields {
  form: HTMLFormElement;
  buttons: HTMLElement;
  read(): RouterSettings;
  fill(settings: RouterSettings): void;
  keep(settings: RouterSettings): void;
  kept(): RouterSettings | undefined;
}

const KEY = "kinglet-router-settings";
const NAMES: [Mode, string][] = [
  ["only-local", "Local only"],
  ["prefer-local", "Prefer local"],
  ["auto", "Auto, by confidence"],
  ["prefer-cloud", "Prefer the server"],
  ["only-cloud", "The server only"],
];

/** What becomes of the token, which depends on where the settings are kept. */
export interface TokenWords {
  hint: string;
  remember: string;
}

const ON_A_PAGE: TokenWords = {
  hint: "A short-lived one: a provider's own key is refused, for anybody could read it in a page. It stays in this page's memory until the page is closed.",
  remember: "Remember the token on this device (in localStorage, readable by this site's pages)",
};

export function fieldsFor(storage: Pick<Storage, "getItem" | "setItem" | "removeItem">, words = ON_A_PAGE): Fields {
  const mode = make("select", {}, ...NAMES.map(([value, label]) => make("option", { value }, label)));
  mode.value = "prefer-local";
  const url = make("input", { type: "text", inputmode: "url", required: "", placeholder: "http://localhost:11434/v1/chat/completions", autocomplete: "off", spellcheck: "false" });
  const model = make("input", { type: "text", required: "", placeholder: "llama3.2", autocomplete: "off", spellcheck: "false" });
  const key = make("input", { type: "password", autocomplete: "off", placeholder: "none" });
  const remember = make("input", { type: "checkbox" });
  const money = () => make("input", { type: "number", min: "0", step: "any", value: "0" });
  const [priceIn, priceOut, budget] = [money(), money(), money()];
  const context = make("select", {}, make("option", { value: "last-turn" }, "The last question only"), make("option", { value: "all" }, "The whole conversation"));
  const terms = make("input", { type: "text", placeholder: "names, projects: separated by commas", autocomplete: "off" });
  const buttons = make("div", { class: "choice" }, make("button", { type: "submit", class: "primary" }, "Switch on"));
  const form = make("form", { class: "fields" },
    field("Who answers", mode), field("Address of the chat completions", url), field("Model there", model),
    field("Token, if it wants one", key, words.hint),
    make("label", { class: "check" }, remember, words.remember),
    field("What is sent", context), field("My words that must not leave", terms),
    make("div", { class: "three" }, field("$ per million in", priceIn), field("$ per million out", priceOut), field("$ a day at most", budget, undefined)),
    buttons,
  );
  return {
    form, buttons,
    read: () => ({
      on: true, mode: mode.value as Mode, url: url.value.trim(), model: model.value.trim(), key: key.value.trim(), remember: remember.checked,
      priceIn: Number(priceIn.value), priceOut: Number(priceOut.value), budget: Number(budget.value), context: context.value as RouterSettings["context"],
      terms: terms.value.split(",").map((term) => term.trim()).filter(Boolean),
    }),
    fill(settings) {
      mode.value = settings.mode;
      url.value = settings.url;
      model.value = settings.model;
      key.value = settings.key;
      remember.checked = settings.remember;
      [priceIn.value, priceOut.value, budget.value] = [settings.priceIn, settings.priceOut, settings.budget].map(String) as [string, string, string];
      context.value = settings.context;
      terms.value = settings.terms.join(", ");
    },
    keep(settings) {
      try {
        storage.setItem(KEY, JSON.stringify({ ...settings, key: settings.remember ? settings.key : "" }));
      } catch {
        // A private window, say: then it is for this visit.
      }
    },
    kept() {
      try {
        const kept = JSON.parse(storage.getItem(KEY) ?? "null") as RouterSettings | null;
        if (kept) this.fill(kept);
        return kept ?? undefined;
      } catch {
        storage.removeItem(KEY);
        return undefined;
      }
    },
  };
}

function field(label: string, input: HTMLElement, hint?: string): HTMLElement {
  return make("label", {}, make("span", {}, label), input, ...(hint ? [make("span", { class: "hint" }, hint)] : []));
}
