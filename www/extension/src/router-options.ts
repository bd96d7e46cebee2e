// The router's server: its settings, its token, and the permission to reach it, asked for when it is entered and given back with it.

import { button } from "../../src/dom.js";
import { sentence } from "../../src/alert.js";
import { fieldsFor } from "../../src/router-form.js";
import { MODES } from "../../src/router-panel.js";
import { allow, originOf } from "./read-page.js";
import { RouterStore, TOKEN_WORDS } from "./router-settings.js";

export async function showRouter(root: HTMLElement, state: HTMLElement): Promise<void> {
  const store = new RouterStore();
  let kept = await store.load();
  const fields = fieldsFor(store.storage, TOKEN_WORDS);
  const say = (text: string) => (state.textContent = text);
  const show = () => {
    say(kept?.on ? MODES[kept.mode] : "Off: nothing leaves this device.");
    off.hidden = !kept?.on;
    remove.hidden = !kept;
  };
  const guarded = (act: () => Promise<void>) => act().then(show, (error: unknown) => void say(sentence(error, "Not switched on")));
  const off = button("Switch off", () => void guarded(async () => {
    if (kept) await store.save((kept = { ...kept, on: false }));
  }));
  const remove = button("Remove this server", () => void guarded(async () => {
    await giveBack(kept?.url);
    await store.forget();
    kept = undefined;
    fields.form.reset();
  }), { class: "danger" });
  fields.buttons.append(off, remove);
  fields.form.addEventListener("submit", (event) => {
    event.preventDefault();
    void guarded(async () => {
      const settings = fields.read();
      if (!URL.canParse(settings.url) || !/^https?:$/.test(new URL(settings.url).protocol)) throw new Error("the address has to begin with https://, or http:// for a server on this machine");
      const before = kept?.url;
      const allowed = await allow(originOf(settings.url)); // first: the browser asks at a click only
      const { createRouter } = await import("kinglet/router");
      const { url, model, mode, key, context, terms } = settings;
      const router = await createRouter({ cloud: { url, model, ...(key ? { auth: key } : {}) }, mode, privacy: { context, terms }, storage: null });
      router.dispose();
      if (before && originOf(before) !== originOf(url)) await giveBack(before);
      await store.save((kept = settings));
      if (!allowed) setTimeout(() => say(`${MODES[mode]} The permission was not given: the server itself has to allow ${location.origin} (CORS).`));
    });
  });
  root.append(fields.form);
  fields.kept();
  show();
}

async function giveBack(url: string | undefined): Promise<void> {
  if (url && URL.canParse(url)) await chrome.permissions.remove({ origins: [originOf(url)] }).catch(() => false); // it was never given
}
