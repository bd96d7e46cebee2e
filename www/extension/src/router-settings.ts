// The router's settings in chrome.storage.local; its token in chrome.storage.session (the browser's memory, gone when it is closed) or,
// where the person asks for it, beside them. Never in chrome.storage.sync, and in no export.

import type { RouterPanelHost } from "../../src/router-panel.js";
import type { RouterSettings } from "../../src/router-form.js";

const SETTINGS = "router";
const TOKEN = "routerToken";

/** As the form and the panel expect a Storage: what was loaded before. */
export class RouterStore {
  #kept: RouterSettings | undefined;
  /** Nothing is written: the panel follows what was changed elsewhere. */
  quiet = false;

  async load(): Promise<RouterSettings | undefined> {
    const [local, session] = await Promise.all([chrome.storage.local.get([SETTINGS, TOKEN]), chrome.storage.session.get(TOKEN)]);
    const settings = local[SETTINGS] as Omit<RouterSettings, "key"> | undefined;
    this.#kept = settings && { ...settings, key: String((settings.remember ? local[TOKEN] : session[TOKEN]) ?? "") };
    return this.#kept;
  }

  async save({ key, ...settings }: RouterSettings): Promise<void> {
    this.#kept = { ...settings, key };
    await chrome.storage[settings.remember ? "session" : "local"].remove(TOKEN);
    if (key) await chrome.storage[settings.remember ? "local" : "session"].set({ [TOKEN]: key });
    await chrome.storage.local.set({ [SETTINGS]: settings });
  }

  async forget(): Promise<void> {
    this.#kept = undefined;
    await chrome.storage.local.remove([SETTINGS, TOKEN]);
    await chrome.storage.session.remove(TOKEN);
  }

  readonly storage: RouterPanelHost["storage"] = {
    getItem: () => (this.#kept ? JSON.stringify(this.#kept) : null),
    // Only "switched off" comes this way: the token stays where it is.
    setItem: (_, text) => {
      if (!this.quiet) void this.save({ ...(JSON.parse(text) as RouterSettings), key: this.#kept?.key ?? "" });
    },
    removeItem: () => void this.forget(),
  };
}

export function onRouterChange(act: () => void): void {
  const changed = (changes: Record<string, chrome.storage.StorageChange>) => (SETTINGS in changes || TOKEN in changes) && act();
  chrome.storage.local.onChanged.addListener(changed);
  chrome.storage.session.onChanged.addListener(changed);
}

/** What to tell of the token. */
export const TOKEN_WORDS = {
  hint: "A short-lived one, or one of your own server: a provider's own key (sk-…) is refused. It is kept in the browser's memory until the browser is closed.",
  remember: "Remember the token on this device: it then lies unencrypted in this browser profile, readable by whoever can read its files",
};
