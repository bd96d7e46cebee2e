// The demo page: a chat with the model that runs in it. This file connects the parts; each part is a file beside it.

import type { Engine, Progress } from "kinglet";
import { hideError, sentence, showError } from "./alert.js";
import { Chat, type Ending } from "./chat.js";
import { button, find } from "./dom.js";
import * as facts from "./facts.js";
import { bytes, count, rate, seconds } from "./format.js";
import { addBreak, addQuestion, Answer, clearLog, isEmpty } from "./log.js";
import { codeOf, Models, nameOf, type Source } from "./models.js";
import { keepInAddress, seedInAddress, setUpPicker, sourceInAddress } from "./picker.js";

const VERBS = { download: "Downloading", verify: "Verifying", load: "Loading", compile: "Preparing", ready: "Loading" } as const;
const SUGGESTIONS = ["Tell me a story about a bird.", "Who are you?", "What can you do?"];

const form = find<HTMLFormElement>("ask");
const question = find<HTMLTextAreaElement>("question");
const send = find<HTMLButtonElement>("send");
const stop = find<HTMLButtonElement>("stop");
const restart = find<HTMLButtonElement>("restart");
const modelName = find("model-name");
const loading = find("loading");
const loadingText = find("loading-text");
const loadingBytes = find("loading-bytes");
const loadingBar = find<HTMLProgressElement>("loading-bar");
const where = find("where");
const whereText = find("where-text");
const speed = find("speed");
const factList = find("facts");

/** On a phone, focus would open the keyboard over half of the page. */
const focusQuestion = () => matchMedia("(pointer: fine)").matches && !document.querySelector("dialog[open]") && question.focus();
const announce = (text: string) => (find("announce").textContent = text);

/** The embedded model is so small that its less likely words are mostly wrong ones. */
const EMBEDDED_TEMPERATURE = 0.4;
const chat = new Chat(() => ({ seed: seedInAddress(), temperature: loaded?.source.kind === "embedded" ? EMBEDDED_TEMPERATURE : undefined }));
let loaded: { source: Source; engine: Engine } | undefined;
/** Of the model that answered before, while another loads. */
let lastSource: Source | undefined;

const models = new Models({
  onLoading(source) {
    loaded = undefined;
    modelName.textContent = nameOf(source);
    loading.hidden = false;
    showProgress(nameOf(source), { phase: "compile", loaded: 0 });
    factList.replaceChildren();
    whereText.textContent = "On this device";
    speed.textContent = "";
    where.className = "";
  },
  onProgress(source, progress) {
    showProgress(nameOf(source), progress);
  },
  onReady(source, engine) {
    loaded = { source, engine };
    if (lastSource && lastSource !== source) {
      chat.forget(); // it was said to another model; it stays to be read
      if (!isEmpty()) addBreak(`${nameOf(source, engine)} starts afresh`);
    }
    lastSource = source;
    loading.hidden = true;
    modelName.textContent = nameOf(source, engine);
    whereText.textContent = facts.line(engine);
    where.className = chat.busy ? "busy" : "ready";
    announce(`${nameOf(source, engine)} is ready.`);
    keepInAddress(source);
    showFacts();
  },
  onFailed(source, error, fallback) {
    loading.hidden = true;
    const instead = fallback ? ` The page goes on with ${fallback.kind === "embedded" ? "the built-in model" : nameOf(fallback)}.` : "";
    const again = source.kind === "file" ? undefined : { label: "Try again", act: () => choose(source) };
    showError(sentence(error, nameOf(source)) + instead, again);
    if (!fallback) modelName.textContent = "Choose a model";
  },
  onEvent: announce,
  onMoved(source) {
    if (loaded?.source !== source) return;
    whereText.textContent = facts.line(loaded.engine);
    showFacts();
  },
});

function showProgress(name: string, { phase, loaded, total }: Progress): void {
  loadingText.textContent = `${VERBS[phase]} ${name}`;
  const isBytes = phase === "download" || phase === "verify" || phase === "load";
  loadingBytes.textContent = isBytes ? bytes(loaded) + (total ? ` of ${bytes(total)}` : "") : "";
  if (isBytes && total) loadingBar.value = loaded / total;
  else loadingBar.removeAttribute("value");
}

function showFacts(): void {
  if (loaded) facts.fill(factList, loaded.source, loaded.engine).catch(() => factList.replaceChildren());
}

function choose(source: Source): void {
  hideError();
  chat.interrupt();
  models.load(source);
  focusQuestion();
}

async function ask(text: string): Promise<void> {
  hideError();
  const asked = addQuestion(text);
  const answer = new Answer();
  restart.disabled = false;
  busy(true);
  try {
    const { reason } = await chat.ask(text, () => models.engine(), {
      onText: (piece) => answer.add(piece),
      onPace: (tokens, ms) => (speed.textContent = tokens > 1 ? `${rate(tokens - 1, ms)} tokens/s` : ""),
    });
    answer.end(endNote(reason, answer.text));
  } catch (error) {
    if (answer.text) answer.end("cut off");
    else {
      answer.remove();
      asked.remove();
      question.value ||= text;
      if (isEmpty()) clearLog();
    }
    const full = codeOf(error) === "CONTEXT_EXCEEDED";
    showError(sentence(error), full ? { label: "New conversation", act: startOver } : undefined);
  }
  busy(chat.busy);
}

/** What the answer cost, from the engine's own clock. */
function endNote(reason: Ending["reason"], text: string): string {
  const stats = loaded?.engine.stats();
  if (reason === "stopped") return "stopped";
  if (!loaded || !stats) return "";
  const { promptTokens, completionTokens, prefillMs, decodeMs } = stats;
  const size = count(loaded.engine.info.contextLength);
  const notes = [`${count(completionTokens)} token${completionTokens === 1 ? "" : "s"}`];
  if (!text) notes.unshift("the model ended its answer at once");
  if (reason === "length") notes.unshift(`the context of ${size} tokens is full`);
  if (completionTokens > 1) notes.push((speed.textContent = `${rate(completionTokens - 1, decodeMs)} tokens/s`));
  notes.push(`first after ${seconds(prefillMs)}`, `context ${count(promptTokens + completionTokens)} of ${size}`);
  return notes.join(" · ");
}

function busy(on: boolean): void {
  send.hidden = on;
  stop.hidden = !on;
  if (loaded) where.className = on ? "busy" : "ready";
  if (!on) {
    focusQuestion();
    showFacts();
  }
}

function startOver(): void {
  chat.stop();
  chat.forget();
  clearLog();
  hideError();
  speed.textContent = "";
  restart.disabled = true;
  focusQuestion();
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  const text = question.value.trim();
  if (!text || chat.busy) return;
  question.value = "";
  void ask(text);
});
question.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape" && !document.querySelector("dialog[open]")) chat.stop();
});
stop.addEventListener("click", () => chat.stop());
restart.addEventListener("click", startOver);
find("suggestions").append(...SUGGESTIONS.map((text) => button(text, () => chat.busy || void ask(text))));

setUpPicker(choose, showFacts);
choose(sourceInAddress());
