// The chat as a program: a page with the elements that it looks for (index.html has them all) becomes the app. This file
// connects the parts; each part is a file beside it.

import type { Engine, EngineOptions } from "kinglet";
import { hideError, sentence, showError } from "./alert.js";
import type { Result } from "./answer.js";
import { Chat } from "./chat.js";
import { setUpTokens } from "./confidence.js";
import { button, find } from "./dom.js";
import * as facts from "./facts.js";
import { count, rate, seconds } from "./format.js";
import { History } from "./history.js";
import { hideLoading, showLoading } from "./loading-bar.js";
import { Log } from "./log.js";
import { ModelDialog } from "./model-dialog.js";
import { codeOf, Models, nameOf, type Source } from "./models.js";
import { Performance } from "./performance.js";
import { Questions } from "./questions.js";
import { RouterPanel, type RouterPanelHost } from "./router-panel.js";
import { SidePanel } from "./side-panel.js";

/** What pages differ in. */
export interface AppHost {
  /** Questions to begin with. */
  suggestions: readonly string[];
  firstSource: Source;
  /** A model works: it is the one to begin with next time. */
  keepChoice(source: Source): void;
  /** Where the catalogue's files come from, if not from the Hugging Face Hub. */
  hub?: string;
  /** As `createEngine` takes it: whose chat template writes conversations. Default: the model's file's. */
  chatTemplate?: EngineOptions["chatTemplate"];
  /** Whether the last conversation is taken up. */
  takesUp?: () => Promise<boolean>;
  /** Makes answers repeatable. */
  seed?: number;
  routerStorage: RouterPanelHost["storage"];
  /** Somebody sends a question. Default: it is asked. */
  ask?(text: string): void;
  /** There is a model for the question that stands at the conversation's end. */
  prepare?(engine: Engine, app: App): Promise<void>;
  onReady?(source: Source): void;
  /** No answer is under way any more. */
  onIdle?(): void;
}

export interface App {
  chat: Chat;
  log: Log;
  questions: Questions;
  router: RouterPanel;
  models: Models;
  /** Loads another model. */
  choose(source: Source): void;
  say(text: string): void;
  /** The last conversation is there again. */
  restored: Promise<void>;
}

/** The embedded model is so small that its less likely words are mostly wrong ones. */
const EMBEDDED_TEMPERATURE = 0.4;
/** What the embedded model's calibration speaks of. */
const CALIBRATED_TEMPERATURE = 0;

/** What is the same the next time. */
const HOPELESS = /^(BAD_|UNSUPPORTED_|NOT_A_MODEL)/;

export function startApp(host: AppHost): App {
  const where = find("where");
  const whereText = find("where-text");
  const speed = find("speed");
  const announce = (text: string) => (find("announce").textContent = text);

  let loaded: { source: Source; engine: Engine } | undefined;
  /** Of the model that answered before, while another loads. */
  let lastSource: Source | undefined;

  const history = new History((error) => console.warn("conversations are not kept:", error));
  const log = new Log(find("log"), find("scroller"), {
    edit: (index) => questions.edit(index, chat.conversation.messages[index]!.text),
    retry: (index) => void chat.retry(index),
    resume: (index) => void chat.resume(index),
  }, (empty) => (find("welcome").hidden = !empty));
  const performancePanel = new Performance(find("performance"));
  const chat = new Chat(log, history, {
    async engine() {
      const engine = await models.engine();
      await host.prepare?.(engine, app);
      return engine;
    },
    options: () => ({ seed: host.seed, temperature: loaded?.source.kind !== "embedded" ? undefined : router.calibrated ? CALIBRATED_TEMPERATURE : EMBEDDED_TEMPERATURE, adapters: dialog.adapters.request() }),
    router: () => router.router,
    shading: () => panel.shading,
    describe,
    onBusy(busy) {
      questions.busy(busy);
      if (busy) {
        hideError();
        performancePanel.begin();
      } else {
        focusQuestion();
        host.onIdle?.();
      }
      if (loaded) where.className = busy ? "busy" : "ready";
      showFacts();
    },
    onPace(tokens, ms) {
      if (tokens > 1) speed.textContent = `${rate(tokens - 1, ms)} tokens/s`;
      performancePanel.pace(tokens, ms);
    },
    onResult({ stats, firstMs }) {
      if (stats && firstMs !== undefined) performancePanel.end(stats, firstMs);
      router.answered();
    },
    onError(error, question) {
      if (question !== undefined) questions.giveBack(question);
      const full = codeOf(error) === "CONTEXT_EXCEEDED";
      showError(sentence(error), ...(full ? [{ label: "New conversation", act: startOver }] : []));
      router.answered();
    },
  });
  const questions = new Questions({ ask: (text) => (host.ask ? host.ask(text) : void chat.ask(text)), edit: (index, text) => void chat.edit(index, text), stop: () => chat.stop(), lastQuestion: () => chat.conversation.messages.findLastIndex(({ from }) => from === "user") , textOf: (index) => chat.conversation.messages[index]!.text });
  const panel = new SidePanel(chat, history, () => (performancePanel.draw(), void router.refresh()), focusQuestion);
  const router = new RouterPanel(find("router"), {
    engine: () => loaded?.engine,
    onLateAnswer(question, answer, by) {
      chat.addLate(question, answer, by);
      announce(`${by} answered an earlier question.`);
    },
    say: announce,
    storage: host.routerStorage,
  });

  /** On a phone, focus would open the keyboard over half of the page. */
  function focusQuestion(): void {
    if (matchMedia("(pointer: fine)").matches && !document.querySelector("dialog[open]") && !find("panel").contains(document.activeElement)) questions.focus();
  }

  const models = new Models({
    onChecking: (source) => showLoading(nameOf(source), "checking"),
    onRefused(source, { message, instead, verdict }) {
      if (loaded) hideLoading();
      const certain = verdict.answer === "no";
      showError(`${nameOf(source)} is ${certain ? "" : "probably "}too large for this device. ${message}`, ...(certain ? [] : [{ label: "Load anyway", act: () => choose({ ...source, force: true }) }]),
        ...(instead ? [{ label: `Use ${instead.name}`, act: () => choose({ kind: "url" as const, url: instead.id }) }] : []));
    },
    onLoading(source) {
      loaded = undefined;
      dialog.adapters.attach(undefined);
      performancePanel.attach(undefined);
      find("model-name").textContent = nameOf(source);
      showLoading(nameOf(source), { phase: "compile", loaded: 0 });
      find("facts").replaceChildren();
      whereText.textContent = "On this device";
      speed.textContent = "";
      where.className = "";
    },
    onProgress: (source, progress) => showLoading(nameOf(source), progress),
    onReady(source, engine) {
      loaded = { source, engine };
      if (lastSource && lastSource !== source) chat.startAfresh(`${nameOf(source, engine)} starts afresh`);
      lastSource = source;
      hideLoading();
      find("model-name").textContent = nameOf(source, engine);
      whereText.textContent = facts.line(engine);
      where.className = chat.busy ? "busy" : "ready";
      announce(`${nameOf(source, engine)} is ready.`);
      host.keepChoice(source);
      dialog.adapters.attach(engine);
      performancePanel.attach(engine);
      showFacts();
      host.onReady?.(source);
    },
    onFailed(source, error, fallback) {
      hideLoading();
      if (!fallback) find("model-name").textContent = "Choose a model";
      if (codeOf(error) === "ABORTED") return announce(`${nameOf(source)} was not loaded. What was downloaded is kept.`);
      const instead = fallback ? ` The page goes on with ${fallback.kind === "embedded" ? "the built-in model" : nameOf(fallback)}.` : "";
      const foreign = host.chatTemplate === "family" && codeOf(error) === "BAD_TEMPLATE"; // the file's own could be run elsewhere
      const why = foreign ? "Kinglet comes with no chat template for this model, and does not run the one in its file here. Choose another model" : error;
      showError(sentence(why, nameOf(source)) + instead, ...(source.kind === "file" || HOPELESS.test(codeOf(error) ?? "") ? [] : [{ label: "Try again", act: () => choose(source) }]));
    },
    onEvent: announce,
    onMoved(source) {
      if (loaded?.source !== source) return;
      whereText.textContent = facts.line(loaded.engine);
      performancePanel.attach(loaded.engine);
      showFacts();
    },
  }, host.hub, host.chatTemplate);
  const dialog = new ModelDialog({ choose, onOpen: showFacts, current: () => loaded?.source, say: announce, hub: host.hub });

  function showFacts(): void {
    if (loaded && find<HTMLDialogElement>("models").open) facts.fill(find("facts"), loaded.source, loaded.engine).catch(() => find("facts").replaceChildren());
  }

  function choose(source: Source): void {
    hideError();
    chat.interrupt();
    models.load(source);
    focusQuestion();
  }

  function startOver(): void {
    hideError();
    chat.open();
    speed.textContent = "";
    focusQuestion();
  }

  /** What the answer cost, from the engine's own clock, or why it came from here. */
  function describe({ finish, source, stats, routed }: Result, text: string): { note: string; by?: string } {
    const notes: string[] = [];
    if (finish === "length") notes.push(source === "local" && loaded ? `the context of ${count(loaded.engine.info.contextLength)} tokens is full` : "cut at its longest");
    if (!text) notes.push("the model ended its answer at once");
    if (routed?.degraded) notes.push(`the server was wanted (${routed.degraded.wanted}) but not asked: ${routed.degraded.advice || routed.degraded.blockedBy}${routed.outbox ? "; the question waits for the network" : ""}`);
    if (source === "cloud") return { note: [...notes, seconds(routed!.record.ms)].join(" · "), by: router.destination };
    if (loaded && stats) {
      const { promptTokens, completionTokens, prefillMs, decodeMs } = stats;
      notes.push(`${count(completionTokens)} token${completionTokens === 1 ? "" : "s"}`);
      if (completionTokens > 1) notes.push((speed.textContent = `${rate(completionTokens - 1, decodeMs)} tokens/s`));
      notes.push(`first after ${seconds(prefillMs)}`, `context ${count(promptTokens + completionTokens)} of ${count(loaded.engine.info.contextLength)}`);
    }
    const name = loaded ? nameOf(loaded.source, loaded.engine) : "";
    return { note: notes.join(" · "), ...(name ? { by: name } : {}) };
  }

  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.defaultPrevented) return;
    const control = event.ctrlKey || event.metaKey;
    if (event.key === "Escape") {
      if (chat.busy) chat.stop();
      else if (!questions.cancelEdit()) panel.close();
    } else if (control && event.shiftKey && event.key.toLowerCase() === "o") startOver();
    else if (control && event.key === "m") dialog.open();
    else if (control && event.key === ".") (panel.open ? panel.close() : panel.show());
    else if (event.key === "/" && !(event.target instanceof Element && event.target.matches("input, textarea, select"))) questions.focus();
    else return;
    if (event.key !== "Escape") event.preventDefault();
  });
  addEventListener("pagehide", () => history.leave());
  addEventListener("pageshow", ({ persisted }) => persisted && void chat.return());
  document.addEventListener("visibilitychange", () => document.hidden && history.leave());
  find("restart").addEventListener("click", startOver);
  find("cancel-loading").addEventListener("click", () => models.cancel());
  find("suggestions").append(...host.suggestions.map((text) => button(text, () => void chat.ask(text))));
  setUpTokens(find("scroller"));
  choose(host.firstSource);
  void router.restore();
  const takesUp = host.takesUp?.() ?? Promise.resolve(true);
  const restored = Promise.all([history.last(), takesUp]).then(([conversation, wanted]) => {
    // Unless something was asked meanwhile.
    if (wanted && conversation) return chat.reopen(conversation, () => chat.conversation.messages.length === 0);
  });
  const app: App = { chat, log, questions, router, models, choose, say: announce, restored };
  return app;
}
