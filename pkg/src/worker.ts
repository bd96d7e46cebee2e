// The worker: holds the wasm, reads the model, runs one request at a time. Between two tokens it listens.

import { breathe } from "./breathe.js";
import { errorData, KingletError } from "./errors.js";
import { Grammar, type Guide } from "./grammar.js";
import { readHeader } from "./header.js";
import { Loader, type Load } from "./loader.js";
import { Mail } from "./mail.js";
import type { Answer, Call, Embedded, EngineRequest, FromWorker, ModelParts, PoolStart, Reply, ToWorker, Token } from "./protocol.js";
import { preparePrefix } from "./prefix.js";
import { tokenOf, type Step } from "./step.js";
import { storeAll } from "./store-all.js";
import type { MadeFor, MemoryUse, Stats } from "./types.js";

/** Tokens gather for so long before they are sent, a frame of most screens; the first goes at once. */
const BATCH_MS = 16;

let loader: Loader;
let engine: Loader["engine"];
let grammar: Grammar;
const mail = new Mail();
let inbox: ToWorker[] = [];
let busy = false;
/** What conversations begin with, until it is read. */
let prefix: AsyncGenerator<void> | undefined;
let running: { id: number; aborted: boolean; tokens: Token[] } | undefined;
let lastWords: string | undefined;
let crashed = false;
/** Waits for the model's parts. */
let reopening: { resolve(model: ModelParts): void; reject(error: KingletError): void } | undefined;
let startingThreads: { resolve(): void; reject(error: Error): void } | undefined;

const send = (message: FromWorker | Answer) => (self as unknown as { postMessage(message: FromWorker | Answer): void }).postMessage(message);

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  mail.received();
  if (crashed) return;
  if (data.type === "trap") data.helper ? loader.wasm.trapHelper() : loader.wasm.trap();
  else if (data.type === "parts") reopening?.resolve(data);
  else if (data.type === "unreadable") reopening?.reject(KingletError.from(data.error));
  else if (data.type === "threads") data.failure === undefined ? startingThreads?.resolve() : startingThreads?.reject(new Error(data.failure));
  else if (data.type === "abort") {
    if (running?.id === data.id) running.aborted = true;
  } else {
    inbox.push(data);
    if (!busy) void work();
  }
};

// A trap inside a future surfaces here, not as a rejection of the promise that waits for it.
self.addEventListener("error", (e) => {
  e.preventDefault();
  crash(e.message);
});
self.addEventListener("unhandledrejection", (e) => {
  e.preventDefault();
  crash(errorData(e.reason)?.message ?? String(e.reason));
});
// What the crate calls before it traps (src/api): a trap itself says nothing.
Object.assign(globalThis, {
  kingletPanic: (message: string) => (lastWords = message),
  kingletHeapFull: (bytes: number) => (lastWords = `out of memory, ${bytes} more bytes were needed`),
});

function crash(message: string): void {
  if (crashed) return;
  crashed = true;
  flush();
  send({ type: "crashed", message: lastWords ?? message });
}

async function work(): Promise<void> {
  busy = true;
  while (inbox.length > 0 || prefix) {
    const message = inbox.shift();
    if (!message) {
      const step = await prefix?.next().catch((e) => crash(String(e)));
      if (!step || step.done) prefix = undefined;
      await breathe();
    } else if (message.type === "load") await load(message);
    else if (message.type === "inspect") await answerOnce(async () => ({ type: "inspected", report: await readHeader(message) }));
    else if (message.type === "store") await answerOnce(() => storeAll(message, send));
    else if (message.type === "run") await run(message.id, message.request);
    else if (message.type === "call") serve(message);
  }
  busy = false;
}

async function load(message: Load): Promise<void> {
  mail.posted = message.posted;
  loader = new Loader(message, { send, reopen, startThreads });
  grammar = new Grammar(message.wasm.grammar);
  try {
    const reason = await loader.load();
    ({ engine } = loader);
    send({ type: "loaded", info: loader.info, reason });
    prefix = message.prefix && preparePrefix(message.prefix, loader, onAnyBackend, send);
  } catch (e) {
    const error = loader.failure(e);
    await loader.giveUp(error);
    if (error) send({ type: "failed", error });
    else crash(String(e));
  }
}

/** In a worker of its own. */
async function answerOnce(answer: () => Promise<Answer>): Promise<void> {
  try {
    send(await answer());
  } catch (e) {
    const error = errorData(e);
    if (error) send({ type: "failed", error });
    else crash(String(e));
  }
}

function reopen(): Promise<ModelParts> {
  return new Promise((resolve, reject) => {
    reopening = { resolve, reject };
    send({ type: "reopen" });
  });
}

function startThreads(pool: PoolStart): Promise<void> {
  return new Promise((resolve, reject) => {
    startingThreads = { resolve, reject };
    send({ type: "threads", pool });
  });
}

/** One text after the other, as long as nobody aborts. */
async function embed(id: number, inputs: (string | number[])[]): Promise<void> {
  send({ type: "started", id });
  running = { id, aborted: false, tokens: [] };
  const embeddings: Embedded[] = [];
  try {
    while (embeddings.length < inputs.length && !running.aborted) {
      const input = inputs[embeddings.length]!;
      const embedding = await onAnyBackend(() => (typeof input === "string" ? engine.embed(input) : engine.embed_tokens(Uint32Array.from(input))));
      if (embedding) embeddings.push(embedding as Embedded);
      await listen();
    }
    send(running.aborted ? { type: "aborted", id } : { type: "embedded", id, embeddings });
  } catch (e) {
    reject(id, e);
  }
  running = undefined;
}

async function run(id: number, { form, ...request }: EngineRequest): Promise<void> {
  lastWords = undefined; // of something that was handled
  if (request.embed) return embed(id, request.embed);
  running = { id, aborted: false, tokens: [] };
  let guide: Guide | undefined;
  try {
    guide = form && (await grammar.guide(form, engine));
    if (running.aborted) send({ type: "aborted", id });
    else await generate(id, request, guide);
  } catch (e) {
    reject(id, guide?.trap ?? e);
  }
  running = undefined;
  guide?.free();
}

async function generate(id: number, request: EngineRequest, guide: Guide | undefined): Promise<void> {
  engine.start(JSON.stringify(request), guide);
  send({ type: "started", id });
  let sent = 0;
  while (running) {
    const step = (await onAnyBackend(() => engine.step())) as Step | undefined;
    if (!step) continue;
    if (step.type === "done") {
      flush();
      const madeFor = engine.made_for(JSON.stringify(request.options), loader.digest) as MadeFor;
      return send({ type: "done", id, finish: { ...step, madeFor } });
    }
    if (step.type === "token") running.tokens.push(tokenOf(step, request, engine));
    const now = performance.now();
    if (now - sent >= BATCH_MS && flush()) sent = now;
    await listen();
    if (running.aborted) return send({ type: "aborted", id, stats: engine.abort() as Stats | undefined });
  }
}

/** Between two steps: lets messages in, and answers small questions. */
async function listen(): Promise<void> {
  if (mail.due()) await breathe();
  if (inbox.length > 0) inbox = inbox.filter((message) => message.type !== "call" || serve(message));
}

/** Nothing where the GPU failed: the CPU goes on from the same point. */
async function onAnyBackend<T>(act: () => Promise<T>): Promise<T | undefined> {
  try {
    return await act();
  } catch (e) {
    const reason = loader.info.backend === "webgpu" ? await loader.gpuFailure(e) : undefined;
    if (!reason) throw e;
    flush();
    await loader.fallBack(reason);
    return undefined;
  }
}

function reject(id: number, e: unknown): void {
  const error = errorData(e);
  if (error) send({ type: "rejected", id, error, lost: loader.lost });
  else crash(String(e));
}

/** Whether there was anything to send. */
function flush(): boolean {
  if (!running?.tokens.length) return false;
  send({ type: "tokens", id: running.id, tokens: running.tokens });
  running.tokens = [];
  return true;
}

/** Answers a small question; false, so that a filter drops it. */
function serve({ id, call }: Extract<ToWorker, { type: "call" }>): false {
  try {
    send({ type: "result", id, value: answer(call) });
  } catch (e) {
    const error = errorData(e);
    if (error) send({ type: "refused", id, error });
    else crash(String(e));
  }
  return false;
}

function answer(call: Call): Reply {
  switch (call.method) {
    case "tokenize":
      return Array.from(engine.tokenize(call.argument));
    case "detokenize":
      return engine.detokenize(Uint32Array.from(call.argument));
    case "memory":
      return { heap: loader.wasm.memory.buffer.byteLength, ...(engine.memory() as Omit<MemoryUse, "heap">) };
    case "loadAdapter": {
      const { id, weights, config } = call.argument;
      engine.load_adapter(id, new Uint8Array(weights), config);
      return null;
    }
    case "unloadAdapter":
      engine.unload_adapter(call.argument);
      return null;
  }
}
