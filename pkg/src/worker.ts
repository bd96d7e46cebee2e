// The worker: holds the wasm, reads the model, runs one request at a time. Between two tokens it listens.

import { loadWasm, type Wasm } from "./device.js";
import { Download } from "./download.js";
import { KingletError, type ErrorData } from "./errors.js";
import type { EngineRequest, FromWorker, Part, ToWorker, Token } from "./protocol.js";
import { BlobReader, ForwardSource, PortReader, type ChunkReader } from "./source.js";
import { LoadProgress } from "./load-progress.js";
import type { EngineInfo, MemoryUse, Stats } from "./types.js";

type Call = Extract<ToWorker, { type: "call" }>;
type Load = Extract<ToWorker, { type: "load" }>;
type Step =
  | { type: "prefill" }
  | { type: "token"; id: number; text: string; signals: Token["signals"]; topLogprobs: { id: number; logprob: number }[]; special: boolean }
  | { type: "done"; text: string; reason: "stop" | "length"; stats: Stats };

/** Tokens gather for so long before they are sent; the first goes at once. */
const BATCH_MS = 8;
/** How long messages may wait for the end of short steps. */
const LISTEN_MS = 4;
/** Of each later part of a split file: its header, usually. */
const FIRST_BYTES = 1 << 20;

let wasm: Wasm;
let engine: Awaited<ReturnType<Wasm["Engine"]["load"]>>;
let inbox: ToWorker[] = [];
let busy = false;
let running: { id: number; aborted: boolean; tokens: Token[] } | undefined;
let panic: string | undefined;
let crashed = false;

const send = (message: FromWorker) => (self as unknown as { postMessage(message: FromWorker): void }).postMessage(message);

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  if (data.type === "trap") wasm.trap();
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
  crash(String(e.reason));
});
(globalThis as { kingletPanic?: (message: string) => void }).kingletPanic = (message) => (panic = message);

function crash(message: string): void {
  if (crashed) return;
  crashed = true;
  flush();
  send({ type: "crashed", message: panic ?? message });
}

async function work(): Promise<void> {
  busy = true;
  for (let message; (message = inbox.shift()); ) {
    if (message.type === "load") await load(message);
    else if (message.type === "run") await run(message.id, message.request);
    else if (message.type === "call") serve(message);
  }
  busy = false;
}

async function load({ parts, wasm: urls, contextLength }: Load): Promise<void> {
  const progress = new LoadProgress((message) => send({ type: "progress", progress: message }), parts);
  const sources: ForwardSource[] = parts.map((part, i) => {
    return new ForwardSource(open(part, i), part.sha256, () => wasm.memory, () => progress.arrived(sources));
  });
  try {
    const compiled = loadWasm(urls).then((ready) => {
      progress.compiled();
      return ready;
    });
    [wasm] = await Promise.all([compiled, ...sources.map((source) => source.open())]);
    engine = await wasm.Engine.load(sources, JSON.stringify({ contextLength }), (done, total) => progress.loaded(done, total));
    if (parts.some((part) => part.sha256)) progress.verified(sources);
    const info = { ...(engine.info() as EngineInfo), adapter: null, threads: 1, simd: wasm.simd };
    send({ type: "loaded", info });
  } catch (e) {
    const error = errorData(sources.find((source) => source.failure)?.failure ?? e);
    if (error) send({ type: "failed", error });
    else crash(String(e));
  }
}

function open(part: Part, i: number): ChunkReader {
  switch (part.kind) {
    case "http":
      return new Download(part.url, { headers: part.headers, firstBytes: i > 0 ? FIRST_BYTES : undefined, onEvent: (event) => send({ type: "event", event }) });
    case "blob":
      return new BlobReader(part.blob);
    case "port":
      return new PortReader(part.port, part.size);
  }
}

async function run(id: number, request: EngineRequest): Promise<void> {
  try {
    engine.start(JSON.stringify(request));
  } catch (e) {
    return reject(id, e);
  }
  send({ type: "started", id });
  running = { id, aborted: false, tokens: [] };
  let heard = performance.now();
  let sent = 0;
  try {
    for (;;) {
      const step = (await engine.step()) as Step;
      if (step.type === "done") {
        flush();
        send({ type: "done", id, finish: step });
        break;
      }
      if (step.type === "token") running.tokens.push(token(step, request));
      const now = performance.now();
      if (now - sent >= BATCH_MS && flush()) sent = now;
      if (now - heard >= LISTEN_MS) {
        await breathe();
        heard = performance.now();
        inbox = inbox.filter((message) => message.type !== "call" || serve(message));
        if (running.aborted) {
          send({ type: "aborted", id, stats: engine.abort() as Stats | undefined });
          break;
        }
      }
    }
  } catch (e) {
    reject(id, e);
  }
  running = undefined;
}

function reject(id: number, e: unknown): void {
  const error = errorData(e);
  if (error) send({ type: "rejected", id, error });
  else crash(String(e));
}

/** Whether there was anything to send. */
function flush(): boolean {
  if (!running?.tokens.length) return false;
  send({ type: "tokens", id: running.id, tokens: running.tokens });
  running.tokens = [];
  return true;
}

function token({ id, text, signals, topLogprobs, special }: Extract<Step, { type: "token" }>, request: EngineRequest): Token {
  if (!request.options.logprobs || special) return { id, text, signals, special };
  const top_logprobs = topLogprobs.map(({ id, logprob }) => ({ ...spell(id), logprob }));
  return { id, text, signals, special, logprobs: { ...spell(id), logprob: signals.logprob, top_logprobs } };
}

function spell(id: number): { token: string; bytes: number[] } {
  const bytes = engine.token_bytes(id);
  return { token: new TextDecoder().decode(bytes), bytes: Array.from(bytes) };
}

/** Answers a small question; false, so that a filter drops it. */
function serve({ id, method, argument }: Call): false {
  try {
    send({ type: "result", id, value: answer(method, argument) });
  } catch (e) {
    const error = errorData(e);
    if (error) send({ type: "refused", id, error });
    else crash(String(e));
  }
  return false;
}

function answer(method: Call["method"], argument: Call["argument"]): number[] | string | MemoryUse {
  switch (method) {
    case "tokenize":
      return Array.from(engine.tokenize(argument as string));
    case "detokenize":
      return engine.detokenize(Uint32Array.from(argument as number[]));
    case "memory":
      return { heap: wasm.memory.buffer.byteLength, ...(engine.memory() as Omit<MemoryUse, "heap">) };
  }
}

/** What the package or the crate threw on purpose; anything else is a crash. */
function errorData(e: unknown): ErrorData | undefined {
  if (e instanceof KingletError) return e.toData();
  const data = e as Partial<ErrorData> | null;
  return typeof data?.code === "string" && typeof data.message === "string" && !(e instanceof Error) ? (data as ErrorData) : undefined;
}

const { port1, port2 } = new MessageChannel();

/** Lets waiting messages in; a timer would cost 4 ms. */
function breathe(): Promise<void> {
  return new Promise((resolve) => {
    port1.onmessage = () => resolve();
    port2.postMessage(null);
  });
}
