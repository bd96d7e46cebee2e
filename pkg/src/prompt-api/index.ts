// The Prompt API (https://github.com/webmachinelearning/prompt-api) for browsers without it: `LanguageModel` on an engine or a
// router of this package. Text only.

import { isChat, type Chat, type Chunk } from "../face.js";
import { badRequest, KingletError } from "../errors.js";
import { History, isBegun, messagesOf, type Prompt, type PromptMessage } from "./history.js";
import { check, constraintText, domError, quotaExceeded, responseFormat, sampling, textOnly, until, type CoreOptions } from "./options.js";
import type { ToolCall } from "../openai.js";
import { addPiece } from "../tool-pieces.js";

export type { Prompt, PromptMessage };

/** Where `LanguageModel` is put. */
export interface PromptApiOptions {
  /** Replace a native one. Default false: it is left alone. */
  force?: boolean;
  /** Where `LanguageModel` is put. Default: globalThis. */
  target?: object;
}

/** An engine or a router; or what makes one when the first session is created, and says how far the download is (0 to 1). */
export type PromptApiSource = Chat | ((onProgress: (share: number) => void) => Promise<Chat>);

type Availability = "unavailable" | "downloadable" | "downloading" | "available";

interface CreateOptions extends CoreOptions {
  initialPrompts?: PromptMessage[];
  signal?: AbortSignal;
  monitor?: (monitor: EventTarget & { ondownloadprogress: ((event: Event) => void) | null }) => void;
}

interface PromptOptions {
  /** A JSON schema, or a regular expression that the whole answer matches. */
  responseConstraint?: object | RegExp;
  /** The prompt does not tell the model of it. */
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

/** What is read of an answer. */
interface Reply {
  text: string;
  calls: ToolCall[];
  tokens: number;
}

/** A tool that calls tools for ever is stopped. */
const MOST_ROUNDS = 8;

/** True where `LanguageModel` is now ours. */
export function installPromptApi(source: PromptApiSource, { force = false, target = globalThis }: PromptApiOptions = {}): boolean {
  if (typeof source !== "function" && !isChat(source)) {
    throw badRequest("the model", "must be an engine, a router, or a function that makes one");
  }
  if ("LanguageModel" in target && !force) return false;
  Object.defineProperty(target, "LanguageModel", { value: languageModelClass(source), configurable: true, writable: true, enumerable: false });
  return true;
}

function languageModelClass(source: PromptApiSource) {
  let model: Chat | undefined = typeof source === "function" ? undefined : source;
  let loading: Promise<Chat> | undefined;
  const progress = new Set<(share: number) => void>();

  async function load(onProgress: (share: number) => void): Promise<Chat> {
    if (model || typeof source !== "function") return (model ??= source as Chat);
    progress.add(onProgress);
    loading ??= source((share) => progress.forEach((tell) => tell(share)));
    try {
      return (model = await loading);
    } finally {
      loading = undefined;
      progress.delete(onProgress);
    }
  }

  return class LanguageModel extends EventTarget {
    oncontextoverflow: ((event: Event) => void) | null = null;
    #history: History;
    #turn: Promise<unknown> = Promise.resolve();
    readonly #ended = new AbortController();

    /** @internal Use `create`. */
    constructor(private readonly model: Chat, private readonly options: CoreOptions, history: History) {
      super();
      this.#history = history;
      this.addEventListener("contextoverflow", (event) => this.oncontextoverflow?.(event));
    }

    static async availability(options: CoreOptions = {}): Promise<Availability> {
      check(options);
      if (!textOnly(options)) return "unavailable";
      return model ? "available" : loading ? "downloading" : "downloadable";
    }

    static async create(options: CreateOptions = {}): Promise<LanguageModel> {
      const { signal, monitor, initialPrompts = [] } = options;
      check(options);
      signal?.throwIfAborted();
      if (!textOnly(options)) throw new DOMException("this model reads and writes text only", "NotSupportedError");
      const history = new History(initialPrompts);
      const target = Object.assign(new EventTarget(), { ondownloadprogress: null as ((event: Event) => void) | null });
      monitor?.(target);
      const tell = (loaded: number) => {
        const event = Object.assign(new Event("downloadprogress"), { loaded, total: 1, lengthComputable: true });
        target.dispatchEvent(event);
        target.ondownloadprogress?.(event);
      };
      const loaded = await until(load(tell), signal);
      tell(1);
      const session = new LanguageModel(loaded, options, history);
      history.tokens = await session.#count(history.messages);
      return session;
    }

    get contextUsage(): number {
      return this.#history.tokens;
    }

    get samplingMode(): string | null {
      return this.options.samplingMode ?? null;
    }

    /** Unknown models: Infinity. */
    get contextWindow(): number {
      return (this.model.info as { contextLength?: number } | undefined)?.contextLength ?? Infinity;
    }

    async prompt(input: Prompt, options: PromptOptions = {}): Promise<string> {
      let text = "";
      for await (const piece of this.#answer(input, options)) text += piece;
      return text;
    }

    promptStreaming(input: Prompt, options: PromptOptions = {}): ReadableStream<string> {
      const pieces = this.#answer(input, options);
      return new ReadableStream<string>({
        async pull(controller) {
          try {
            const { done, value } = await pieces.next();
            if (done) controller.close();
            else controller.enqueue(value);
          } catch (e) {
            controller.error(e);
          }
        },
        cancel: () => pieces.return(undefined).then(() => {}),
      });
    }

    async append(input: Prompt, { signal }: { signal?: AbortSignal } = {}): Promise<undefined> {
      this.#check(signal);
      const needed = await this.#count(messagesOf(input));
      if (needed > this.contextWindow) throw quotaExceeded(`these ${needed} tokens are more than the context has`, { promptTokens: needed, contextLength: this.contextWindow });
      this.#check(signal);
      this.#history.append(input, needed);
      return undefined;
    }

    /** Of the texts alone: a chat template adds some tokens to each message. */
    async measureContextUsage(input: Prompt, options: PromptOptions = {}): Promise<number> {
      this.#check(options.signal);
      if (!("tokenize" in this.model)) throw new DOMException("this model does not count tokens", "NotSupportedError");
      return this.#count(messagesOf(input, constraintOf(options)));
    }

    /** 0 where the model does not count, as a router. */
    async #count(messages: { content: string }[]): Promise<number> {
      const { tokenize } = this.model as { tokenize?: (text: string) => Promise<number[]> };
      if (!tokenize || messages.length === 0) return 0;
      return (await tokenize.call(this.model, messages.map(({ content }) => content).join("\n"))).length;
    }

    async clone({ signal }: { signal?: AbortSignal } = {}): Promise<LanguageModel> {
      this.#check(signal);
      return new LanguageModel(this.model, this.options, this.#history.clone());
    }

    destroy(): undefined {
      this.#ended.abort(new DOMException("the session was destroyed", "AbortError"));
      return undefined;
    }

    #check(signal?: AbortSignal): void {
      signal?.throwIfAborted();
      if (this.#ended.signal.aborted) throw new DOMException("the session was destroyed", "InvalidStateError");
    }

    /** One prompt of a session after the other. What fails leaves no trace in the conversation. */
    async *#answer(input: Prompt, options: PromptOptions): AsyncGenerator<string, void, undefined> {
      const { signal: given, responseConstraint } = options;
      this.#check(given);
      const before = this.#turn;
      let next!: () => void;
      this.#turn = new Promise<void>((resolve) => (next = resolve));
      const signal = given ? AbortSignal.any([given, this.#ended.signal]) : this.#ended.signal;
      try {
        await before;
        if (isBegun(input) && !("tokenize" in this.model)) throw new DOMException("a router cannot begin answers (prefix): a server may not go on with them", "NotSupportedError");
        const turn = this.#history.begin(input, constraintOf(options));
        for (let round = 0; round < MOST_ROUNDS; round++) {
          const reply = yield* this.#round(turn, responseConstraint, signal);
          turn.say(reply.text, reply.calls, reply.tokens);
          if (reply.calls.length === 0) return turn.keep();
          for (const call of reply.calls) turn.result(call, await this.#run(call));
        }
        throw new DOMException(`the tools were called ${MOST_ROUNDS} times without an answer`, "OperationError");
      } catch (e) {
        throw signal.aborted ? signal.reason : domError(e);
      } finally {
        next();
      }
    }

    async *#round(turn: ReturnType<History["begin"]>, constraint: PromptOptions["responseConstraint"], signal: AbortSignal): AsyncGenerator<string, Reply, undefined> {
      const { tools } = this.options;
      const request = {
        ...sampling(this.options),
        ...(constraint && { response_format: responseFormat(constraint) }),
        ...(tools?.length && { tools: tools.map(({ name, description, inputSchema }) => ({ type: "function", function: { name, description, parameters: inputSchema } })) }),
        stream: true,
        stream_options: { include_usage: true },
      };
      for (let forgot = false; ; forgot = true) {
        const reply: Reply = { text: "", calls: [], tokens: 0 };
        try {
          const chunks = (await this.model.chat.completions.create({ ...request, ...turn.request() } as never, { signal })) as AsyncIterable<Chunk>;
          if (forgot) this.dispatchEvent(new Event("contextoverflow"));
          for await (const { choices, usage } of chunks) {
            const delta = choices[0]?.delta;
            if (usage) reply.tokens = usage.total_tokens;
            for (const piece of delta?.tool_calls ?? []) addPiece(reply.calls, piece);
            if (!delta?.content) continue;
            reply.text += delta.content;
            yield delta.content;
          }
          return reply;
        } catch (e) {
          // The oldest is forgotten; what nothing can be forgotten for is too long.
          if (!(e instanceof KingletError) || e.code !== "CONTEXT_EXCEEDED" || reply.text !== "" || !turn.forget()) throw e;
        }
      }
    }

    async #run(call: ToolCall): Promise<string> {
      const tool = this.options.tools?.find(({ name }) => name === call.function.name);
      if (!tool) return `there is no tool ${call.function.name}`;
      return String(await tool.execute(JSON.parse(call.function.arguments || "{}")));
    }
  };
}

function constraintOf({ responseConstraint, omitResponseConstraintInput }: PromptOptions): string | undefined {
  return responseConstraint && !omitResponseConstraintInput ? constraintText(responseConstraint) : undefined;
}
