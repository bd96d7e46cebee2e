// The side panel: the app of the demo page, which answers what the context menu asks and reads the page beside it when told to.

import { startApp, type App } from "../../src/app.js";
import { button, find, make } from "../../src/dom.js";
import { firstSource, rememberChoice } from "../../src/picker.js";
import type { Source } from "../../src/models.js";
import { Attachment } from "./attachment.js";
import { fit } from "./fit.js";
import { panels } from "./panels.js";
import { onRequest, take, type PanelRequest } from "./requests.js";
import { onRouterChange, RouterStore } from "./router-settings.js";
import { targetLanguage } from "./settings.js";
import { question, questionAbout, sourceOf } from "./tasks.js";

const AFRESH = "A new text: what stands above is not sent along";

const routerStore = new RouterStore();
const [{ id: windowId = chrome.windows.WINDOW_ID_NONE }] = await Promise.all([chrome.windows.getCurrent(), routerStore.load()]);
let model: Source | undefined;
let idle: (() => void)[] = [];

const app = startApp({
  suggestions: ["Who are you?", "What can you do?"],
  firstSource: firstSource(),
  keepChoice: rememberChoice,
  // The store's policy: no code that was fetched, and a file's template is a program.
  chatTemplate: "family",
  routerStorage: routerStore.storage,
  takesUp: async () => (await panels()).length === 1,
  ask,
  async prepare(engine, { chat, log }: App) {
    const { messages, start = 0 } = chat.conversation;
    for (const message of await fit(engine, messages.slice(start).filter(({ text }) => text))) log.updateExcerpt(message, messages.indexOf(message));
  },
  onReady(source) {
    model = source;
    find("small-model").hidden = source.kind !== "embedded";
  },
  onIdle() {
    for (const resolve of idle.splice(0)) resolve();
    void answerRequests();
  },
});
const attachment = new Attachment(windowId, { ask, focus: () => app.questions.focus(), say: app.say });

function ask(text: string): void {
  if (app.chat.busy) return;
  const attached = attachment.take();
  if (!attached) return void app.chat.ask(text);
  app.chat.startAfresh(AFRESH);
  void app.chat.ask(text, questionAbout(text, attached.page.text, attached.from));
  adviseModel();
}

/** Nobody shall judge Kinglet by a model of two and a half million parameters. */
function adviseModel(): void {
  if (model?.kind !== "embedded") return;
  const notice = find("notice");
  notice.replaceChildren(
    make("span", {}, "The built-in model is too small to understand such texts."),
    button("Choose a larger model", () => (notice.replaceChildren(), find("open-models").click()), { class: "small" }),
    button("Close", () => notice.replaceChildren(), { class: "quiet small" }),
  );
}

const whenIdle = (): Promise<void> => (app.chat.busy ? new Promise((resolve) => idle.push(resolve)) : Promise.resolve());

async function answerRequest(request: PanelRequest): Promise<void> {
  if (request.kind === "page") return attachment.read(request.tabId);
  const language = await targetLanguage();
  const { shown, excerpt } = question(request.task, request.text, language, sourceOf(request.title, request.url));
  while (app.chat.busy) await whenIdle(); // somebody was quicker
  app.chat.startAfresh(AFRESH);
  void app.chat.ask(shown, excerpt);
  adviseModel();
}

let answering = false;
let more = false;

/** One after the other; what waits stays in storage, where a panel that is opened later finds it. */
async function answerRequests(): Promise<void> {
  more = true;
  if (answering) return;
  answering = true;
  try {
    await app.restored;
    while (more) {
      more = false;
      for (let request; !app.chat.busy && (request = await take(windowId)); ) await answerRequest(request);
    }
  } finally {
    answering = false;
  }
}

onRequest(() => void answerRequests());
void answerRequests();

/** Settings and token change one after the other. */
const TOGETHER_MS = 50;
let following: ReturnType<typeof setTimeout> | undefined;

async function followRouter(): Promise<void> {
  const settings = await routerStore.load();
  if (settings?.on) return app.router.restore();
  routerStore.quiet = true;
  app.router.off();
  routerStore.quiet = false;
}

onRouterChange(() => {
  clearTimeout(following);
  following = setTimeout(() => void followRouter(), TOGETHER_MS);
});

chrome.runtime.onMessage.addListener((message: { type?: string; windowId?: number }) => {
  if (message.type === "granted" && message.windowId === windowId) attachment.granted();
  if (message.type === "model") app.choose(firstSource()); // one was chosen on the options page
  if (message.type === "erase") location.replace("erased.html");
});
for (const opener of document.querySelectorAll(".open-options")) opener.addEventListener("click", () => void chrome.runtime.openOptionsPage());
