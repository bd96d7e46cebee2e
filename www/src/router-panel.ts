// The router's settings and its books: off until somebody switches it on. Knows no page.

import type { Engine } from "kinglet";
import type { Mode, Router, RouterNotice } from "kinglet/router";
import { askConsent } from "./consent.js";
import { button, make } from "./dom.js";
import { fieldsFor, type Fields, type RouterSettings } from "./router-form.js";

const DAY_MS = 86_400_000;
const SETTLED_MS = 500;
const dollars = (usd: number) => (usd === 0 ? "$0" : `$${Math.abs(usd) < 0.01 ? usd.toPrecision(2) : usd.toFixed(2)}`);

export interface RouterPanelHost {
  engine(): Engine | undefined;
  /** The answer to an earlier question that had waited. */
  onLateAnswer(question: string, answer: string, by: string): void;
  say(text: string): void;
  /** Where the settings are kept. */
  storage: Pick<Storage, "getItem" | "setItem" | "removeItem">;
}

export class RouterPanel {
  #router: Router | undefined;
  #settings: RouterSettings | undefined;
  readonly #fields: Fields;
  readonly #state = make("p", { class: "hint", role: "status" });
  readonly #books = make("div", { class: "books" });

  constructor(root: HTMLElement, private readonly host: RouterPanelHost) {
    this.#fields = fieldsFor(host.storage);
    const off = button("Switch off", () => this.off());
    this.#fields.form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#on(this.#fields.read(), true);
    });
    this.#fields.buttons.append(off);
    root.append(
      make("p", { class: "hint" }, "Off: every answer comes from this device. Switched on, questions that the model here cannot answer well may go to a server that you name. Nothing is sent before you have seen it and agreed; secrets such as keys block a request, and email addresses, phone and card numbers become placeholders."),
      this.#fields.form, this.#state, this.#books,
    );
    this.#say("Off: nothing leaves this device.");
  }

  get router(): Router | undefined {
    return this.#router;
  }

  /** Answers of the built-in model are judged by its calibration. */
  get calibrated(): boolean {
    return this.#router !== undefined && this.#settings?.mode === "auto";
  }

  /** As it was at the last visit, if it was on. */
  async restore(): Promise<void> {
    const kept = this.#fields.kept();
    if (kept?.on) await this.#on(kept, false);
  }

  /** Where answers of the cloud come from. */
  get destination(): string {
    return this.#settings ? `${this.#settings.model} at ${hostOf(this.#settings.url)}` : "";
  }

  off(): void {
    this.#router?.dispose();
    this.#router = undefined;
    if (this.#settings) this.#fields.keep({ ...this.#settings, on: false });
    this.#say("Off: nothing leaves this device.");
    this.#books.replaceChildren();
  }

  async #on(settings: RouterSettings, keep: boolean): Promise<void> {
    this.#say("Switching on …");
    try {
      const { createRouter } = await import("kinglet/router");
      const { url, model, mode, key, priceIn, priceOut, budget, context, terms } = settings;
      const router = await createRouter({
        local: this.host.engine(),
        cloud: { url, model, ...(key ? { auth: key } : {}), ...(priceIn || priceOut ? { price: { input: priceIn, output: priceOut } } : {}) },
        mode,
        ...(mode === "auto" ? { calibration: await calibration() } : {}),
        privacy: { context, terms },
        consent: askConsent,
        ...(budget > 0 ? { budget: { usd: budget, periodMs: DAY_MS } } : {}),
        outbox: {
          persist: true,
          onAnswer: ({ request }, answer) => {
            const asked = request.messages.at(-1)?.content;
            this.host.onLateAnswer(typeof asked === "string" ? asked : "", answer.text, this.destination);
            this.answered();
          },
        },
        onEvent: (notice) => this.#notice(notice),
      });
      this.#router?.dispose();
      this.#router = router;
      this.#settings = { ...settings, on: true };
      if (keep) this.#fields.keep(this.#settings);
      this.#fields.fill(settings);
      this.#say(MODES[mode]);
      void router.outbox.flush().then(() => this.refresh());
      await this.refresh();
    } catch (error) {
      this.#say(`Not switched on: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  #notice(notice: RouterNotice): void {
    if (notice.type === "auth-failed") this.#say("The server did not take the token: enter another one.");
    if (notice.type === "storage-failed") this.#say("This browser keeps nothing: consents and spending count for this tab only.");
  }

  #say(text: string): void {
    this.#state.textContent = text;
  }

  /** An answer is over; what it cost is written down a moment later. */
  answered(): void {
    void this.refresh();
    setTimeout(() => void this.refresh(), SETTLED_MS);
  }

  /** What was answered where, what it cost and saved, what waits, what was agreed to. */
  async refresh(): Promise<void> {
    const router = this.#router;
    if (!router) return;
    const stats = router.stats();
    const waiting = await router.outbox.list();
    if (router !== this.#router) return;
    const priced = (this.#settings?.priceIn ?? 0) + (this.#settings?.priceOut ?? 0) > 0;
    const rows: [string, string][] = [
      ["Answered here", stats.localShare === null ? "nothing yet" : `${Math.round(stats.localShare * 100)} % (${stats.local} of ${stats.local + stats.cloud})`],
      ["Wanted the server, stayed here", String(stats.degraded)],
    ];
    if (priced) {
      const most = this.#settings!.budget;
      rows.push(
        ["Saved", `${dollars(stats.savedUsd)}, counted with the local model's tokens: the server's may differ by some percent${stats.costIsBound ? "; part of the cost is an upper bound" : ""}`],
        ["Spent", `${dollars(stats.spentUsd)}${most > 0 ? ` of ${dollars(most)} today, all tabs` : ", all tabs"}${stats.unsureUsd > 0 ? `, of which ${dollars(stats.unsureUsd)} is the most it can have been` : ""}`],
      );
    } else rows.push(["Saved", "unknown: enter the server's prices"]);
    const sections: Node[] = [make("dl", { class: "rows" }, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]))];
    if (waiting.length > 0) {
      const entries = waiting.map(({ id, request, blockedBy }) => make("li", {}, make("div", { class: "entry-text" }, String(request.messages.at(-1)?.content ?? ""), make("p", { class: "hint" }, blockedBy)),
        button("Forget", () => void router.outbox.remove(id).then(() => this.refresh()))));
      sections.push(make("h4", {}, "Waits for the network"), make("ul", { class: "entries" }, ...entries), button("Ask now", () => void router.outbox.flush().then(() => this.refresh())));
    }
    const grants = router.grants();
    if (grants.length > 0) {
      const entries = grants.map((grant) => make("li", {}, make("div", { class: "entry-text" }, `${grant.model} at ${grant.host}`), button("Revoke", () => void router.revoke(grant).then(() => this.refresh()), { "aria-label": `Revoke the consent for ${grant.host}` })));
      sections.push(make("h4", {}, "Always allowed"), make("ul", { class: "entries" }, ...entries));
    }
    this.#books.replaceChildren(...sections);
  }
}

/** What each mode does, in words. */
export const MODES: Record<Mode, string> = {
  "only-local": "On, local only: nothing leaves this device.",
  "prefer-local": "On: the server is asked, after your consent, where the model here fails or gives no answer.",
  auto: "On: the server is asked, after your consent, where the model here fails, and where the built-in model is not sure enough of its answer. Other models have no calibration here: of them no answer, a refusal or a loop counts.",
  "prefer-cloud": "On: the server is asked first, after your consent; the model here answers where it cannot.",
  "only-cloud": "On: only the server answers, after your consent.",
};

/** Of the built-in model: of its answers on the CPU, at temperature 0. */
async function calibration(): Promise<string> {
  const response = await fetch(new URL("kinglet/dist/default.calibration.json", document.baseURI));
  if (!response.ok) throw new Error(`the built-in model's calibration could not be read (${response.status})`);
  return response.text();
}

function hostOf(url: string): string {
  return URL.canParse(url, document.baseURI) ? new URL(url, document.baseURI).host : url;
}
