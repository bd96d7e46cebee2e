// One answer: from the engine, or through the router from the engine or a server. Knows no page.

import type { ChatCompletionChunk, ChatMessage, ChatRequest, Engine, FinishReason, Stats, TokenLogprob } from "kinglet";
import type { Answer, LocalModel, Router } from "kinglet/router";
import type { Token } from "./conversation.js";

export interface Question {
  messages: ChatMessage[];
  /** The last message is the answer's beginning, which goes on. */
  begun?: Begun;
  /** Resolves once there is a model; rejects where there is none. */
  engine(): Promise<Engine>;
  /** Where the person switched it on. */
  router?: Router;
  /** Asked once the model is there: sampling, adapters. */
  options(): Omit<ChatRequest, "messages">;
  /** Keep each token's probability and its alternatives. */
  confidence: boolean;
  signal: AbortSignal;
}

/** An answer that was cut off. */
export interface Begun {
  text: string;
  /** What it is made of, where that is known. */
  tokens: readonly Token[] | undefined;
}

export interface Listener {
  /** The model is there and begins to read. */
  begin(): void;
  /** All of the answer so far, what was begun included, and the tokens that it is made of, where they are known. */
  text(text: string, tokens: readonly Token[] | undefined): void;
  source(source: "local" | "cloud"): void;
  /** Tokens so far, and milliseconds since the first. */
  pace(tokens: number, ms: number): void;
  /** Something to be known while it goes on. */
  status(text: string): void;
}

export interface Result {
  finish: FinishReason | "content_filter" | "stopped";
  source: "local" | "cloud";
  tokens?: Token[];
  /** From the question, or from when the model was ready, to the first token. */
  firstMs?: number;
  /** Of the local run, where there was one. */
  stats?: Stats;
  /** Of the router. */
  routed?: Answer;
}

const OTHERS = 5;

/** Rejects with what the engine or the router rejects with; what was told to `listener` is then all there is. */
export async function answer(question: Question, listener: Listener): Promise<Result> {
  const { signal, router } = question;
  const aborted = new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
  aborted.catch(() => {});
  let engine: Engine | undefined;
  try {
    engine = await Promise.race([question.engine(), aborted]);
  } catch (error) {
    if (!router || signal.aborted) throw error; // the cloud may answer without
  }
  const run = new LocalRun(question, listener);
  listener.begin();
  const result = router ? await run.routed(router, engine) : await run.direct(engine!);
  return { ...result, firstMs: run.firstMs, stats: run.tokensSeen > 0 ? engine?.stats() : undefined };
}

class LocalRun {
  tokens: Token[];
  tokensSeen = 0;
  firstMs: number | undefined;
  #text: string;
  #began = performance.now();
  #first = 0;

  constructor(private readonly question: Question, private readonly listener: Listener) {
    const { begun } = question;
    this.#text = begun?.text ?? "";
    this.tokens = begun ? [...(begun.tokens ?? [{ text: begun.text, p: 1, others: [] }])] : [];
  }

  #request(): Omit<ChatRequest, "messages"> {
    return { ...this.question.options(), ...(this.question.begun ? { continue_final_message: true } : {}), ...(this.question.confidence ? { logprobs: true, top_logprobs: OTHERS } : {}) };
  }

  async direct(engine: Engine): Promise<Result> {
    let finish: Result["finish"] = "stop";
    const { messages, signal } = this.question;
    for await (const chunk of await engine.chat.completions.create({ messages, ...this.#request(), stream: true }, { signal })) {
      this.#see(chunk);
      const choice = chunk.choices[0];
      this.#text += choice?.delta.content ?? "";
      if (choice) this.listener.text(this.#text, this.question.confidence ? this.tokens : undefined);
      finish = choice?.finish_reason ?? finish;
    }
    return { finish, source: "local", ...(this.question.confidence ? { tokens: this.tokens } : {}) };
  }

  async routed(router: Router, engine: Engine | undefined): Promise<Result> {
    router.setLocal(engine && this.#tap(engine));
    const { messages, signal, confidence } = this.question;
    const ask = router.ask({ messages, ...this.question.options() }, { signal });
    let source: "local" | "cloud" | undefined;
    ask.answer.catch(() => {}); // the loop throws the same
    for await (const event of ask) {
      if (event.type === "token") {
        if (event.source !== source) this.listener.source((source = event.source));
        this.#text += event.text;
        this.#mark();
      } else if (event.type === "switch") this.#text = this.#text.slice(0, this.#text.length - event.retract);
      else if (event.type === "consent") this.listener.status("Waiting for your consent");
      else if (event.type === "retry") this.listener.status(`Trying again: ${event.cause}`);
      else if (event.type === "final") this.#text = event.answer.text;
      if (event.type === "token" || event.type === "switch") this.listener.text(this.#text, confidence && event.type === "token" && source === "local" ? this.tokens : undefined);
    }
    const routed = await ask.answer;
    const local = routed.source === "local" && confidence;
    this.listener.source(routed.source);
    this.listener.text(routed.text, local ? this.tokens : undefined);
    return { finish: routed.finish, source: routed.source, routed, ...(local ? { tokens: this.tokens } : {}) };
  }

  /** The engine as the router sees it; what passes is read here too. */
  #tap(engine: Engine): LocalModel {
    const create = async (request: ChatRequest, options?: { signal?: AbortSignal }) => {
      const chunks = await engine.chat.completions.create({ ...request, ...this.#request(), stream: true }, options);
      const see = (chunk: ChatCompletionChunk) => this.#see(chunk);
      return (async function* () {
        for await (const chunk of chunks) {
          see(chunk);
          yield chunk;
        }
      })();
    };
    return { info: engine.info, chat: { completions: { create } } } as LocalModel;
  }

  #mark(): void {
    if (this.#first) return;
    this.#first = performance.now();
    this.firstMs = this.#first - this.#began;
  }

  #see({ choices: [choice] }: ChatCompletionChunk): void {
    if (!choice || choice.token_ids.length === 0) return;
    this.#mark();
    this.tokensSeen += choice.token_ids.length;
    this.tokens.push(...(choice.logprobs?.content ?? []).map(toToken));
    this.listener.pace(this.tokensSeen, performance.now() - this.#first);
  }
}

/** Half a character is shown as what the text will have. */
function toToken({ token, logprob, top_logprobs }: TokenLogprob): Token {
  const others = top_logprobs.filter((other) => other.token !== token).map((other) => ({ text: other.token, p: chance(other.logprob) }));
  return { text: token, p: chance(logprob), others };
}

const chance = (logprob: number) => Number(Math.exp(logprob).toPrecision(4));
