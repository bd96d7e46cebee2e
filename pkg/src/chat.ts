// OpenAI's shapes around a run: chat and raw completions, whole and streamed.

import type { KingletError } from "./errors.js";
import type { Runner } from "./engine.js";
import type { CallPiece, Finish, Token } from "./protocol.js";
import { checkChat, checkCompletion, type Checked } from "./request.js";
import { ChunkStream } from "./stream.js";
import { Calls } from "./tools.js";
import type {
  ChatCompletion, ChatCompletionChunk, ChatRequest, Completion, CompletionChunk, CompletionLogprobs, CompletionRequest, Create, RequestOptions, Stats, Stream, TokenLogprob, ToolCallDelta, Usage,
} from "./types.js";

/** How one of the two endpoints spells its replies. */
interface Shape<Chunk> {
  /** Before any text; chats announce the role. */
  opening?(id: Head): Chunk;
  piece(head: Head, piece: Piece): Chunk;
  /** The usage alone, no choices. */
  usage(head: Head, usage: Usage): Chunk;
}

interface Head {
  id: string;
  created: number;
  model: string;
}

interface Piece {
  text: string;
  reasoning?: string;
  calls?: ToolCallDelta[];
  ids: number[];
  /** Where `text` starts in the answer. */
  offset: number;
  logprobs: TokenLogprob[] | null;
  reason: Finish["reason"] | null;
}

export function createChat(runner: Runner): Create<ChatRequest, ChatCompletion, ChatCompletionChunk> {
  return (async (body: ChatRequest, options?: RequestOptions) => {
    const checked = checkChat(body);
    const head = newHead("chatcmpl-", runner);
    if (checked.stream) return streamed(runner, checked, head, chatChunks, options);
    const { text, reasoning, calls, ids, logprobs, finish } = await whole(runner, checked, options);
    const content = calls.length > 0 && text === "" ? null : text;
    const message = { role: "assistant", content, ...(reasoning && { reasoning_content: reasoning }), ...(calls.length > 0 && { tool_calls: calls }), refusal: null } as const;
    const choice = { index: 0, message, logprobs: logprobs && { content: logprobs, refusal: null }, finish_reason: finish.reason, token_ids: ids } as const;
    return { ...head, object: "chat.completion", choices: [choice], usage: usageOf(finish.stats), signals: finish.signals, made_for: finish.madeFor } satisfies ChatCompletion;
  }) as Create<ChatRequest, ChatCompletion, ChatCompletionChunk>;
}

export function createCompletions(runner: Runner): Create<CompletionRequest, Completion, CompletionChunk> {
  return (async (body: CompletionRequest, options?: RequestOptions) => {
    const checked = checkCompletion(body);
    const head = newHead("cmpl-", runner);
    if (checked.stream) return streamed(runner, checked, head, textChunks, options);
    const { text, ids, logprobs, finish } = await whole(runner, checked, options);
    const reply = textChunks.piece(head, { text, ids, offset: 0, logprobs, reason: finish.reason });
    return { ...reply, usage: usageOf(finish.stats), signals: finish.signals, made_for: finish.madeFor };
  }) as Create<CompletionRequest, Completion, CompletionChunk>;
}

const chatChunks: Shape<ChatCompletionChunk> = {
  opening: (head) => chatChunk(head, [{ index: 0, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null, token_ids: [] }]),
  piece: (head, { text, reasoning, calls = [], ids, logprobs, reason }) => {
    const other = { ...(reasoning && { reasoning_content: reasoning }), ...(calls.length > 0 && { tool_calls: calls }) };
    const delta = text === "" && (reason || reasoning || calls.length > 0) ? other : { ...other, content: text };
    return chatChunk(head, [{ index: 0, delta, logprobs: logprobs && { content: logprobs, refusal: null }, finish_reason: reason, token_ids: ids }]);
  },
  usage: (head, usage) => ({ ...chatChunk(head, []), usage }),
};

function chatChunk(head: Head, choices: ChatCompletionChunk["choices"]): ChatCompletionChunk {
  return { ...head, object: "chat.completion.chunk", choices };
}

const textChunks: Shape<CompletionChunk> = {
  piece: (head, { text, ids, offset, logprobs, reason }) => {
    const choice = { index: 0, text, logprobs: logprobs && textLogprobs(logprobs, offset), finish_reason: reason as "stop" | "length" | null, token_ids: ids } as const;
    return { ...head, object: "text_completion", choices: [choice] };
  },
  usage: (head, usage) => ({ ...head, object: "text_completion", choices: [], usage }),
};

async function whole(runner: Runner, checked: Checked, options?: RequestOptions) {
  return new Promise<{ text: string; reasoning: string; calls: Calls["whole"]; ids: number[]; logprobs: TokenLogprob[] | null; finish: Finish }>((resolve, reject) => {
    const calls = new Calls();
    const ids: number[] = [];
    const logprobs: TokenLogprob[] | null = checked.request.options.logprobs ? [] : null;
    let text = "";
    let reasoning = "";
    const take = (token: Token) => {
      text += token.text;
      reasoning += token.reasoning ?? "";
      calls.take(token.calls);
      ids.push(token.id);
      if (token.logprobs) logprobs?.push(token.logprobs);
    };
    start(runner, checked, options?.signal ?? new AbortController().signal, {
      onStart() {},
      onTokens: (tokens) => tokens.forEach(take),
      onEnd(finish) {
        calls.take(finish.calls);
        resolve({ text: text + finish.text, reasoning: reasoning + (finish.reasoning ?? ""), calls: calls.whole, ids, logprobs, finish });
      },
      onError: (error) => reject(cutShort(error, text, ids)),
    });
  });
}

function streamed<Chunk extends ChatCompletionChunk | CompletionChunk>(runner: Runner, checked: Checked, head: Head, shape: Shape<Chunk>, options?: RequestOptions): Promise<Stream<Chunk>> {
  const controller = new AbortController();
  const { signal } = options ?? {};
  const forward = () => controller.abort(signal?.reason);
  if (signal?.aborted) forward();
  else signal?.addEventListener("abort", forward, { once: true });
  const settled = () => signal?.removeEventListener("abort", forward);

  return new Promise((resolve, reject) => {
    const stream = new ChunkStream<Chunk>(controller);
    const wantsLogprobs = checked.request.options.logprobs === true;
    const ids: number[] = [];
    let text = "";
    let pending: number[] = []; // ids whose text is still held back
    const calls = new Calls();
    const push = ({ calls: pieces, ...piece }: Omit<Piece, "offset" | "ids" | "calls"> & { calls?: CallPiece[] }, more?: object) => {
      const chunk = shape.piece(head, { ...piece, calls: calls.take(pieces), ids: pending, offset: text.length });
      stream.push(more ? { ...chunk, ...more } : chunk);
      text += piece.text;
      pending = [];
    };
    start(runner, checked, controller.signal, {
      onStart() {
        if (shape.opening) stream.push(shape.opening(head));
        resolve(stream);
      },
      onTokens(tokens) {
        for (const token of tokens) {
          ids.push(token.id);
          pending.push(token.id);
          if (token.text === "" && !token.reasoning && !token.calls?.length && !wantsLogprobs && !token.soFar) continue;
          const signals = token.soFar && { signals: token.soFar };
          push({ text: token.text, reasoning: token.reasoning, calls: token.calls, logprobs: token.logprobs ? [token.logprobs] : null, reason: null }, signals);
        }
      },
      onEnd({ text: rest, reasoning, calls, reason, stats, signals, madeFor }) {
        settled();
        push({ text: rest, reasoning, calls, logprobs: null, reason }, { signals, made_for: madeFor });
        if (checked.includeUsage) stream.push(shape.usage(head, usageOf(stats)));
        stream.end();
      },
      onError(error) {
        settled();
        stream.fail(cutShort(error, text, ids));
        reject(error); // before the start; afterwards it is resolved already
      },
    });
  });
}

function start(runner: Runner, checked: Checked, signal: AbortSignal, listener: Parameters<Runner["run"]>[1]): void {
  checked.ignored.forEach((option) => runner.report(option));
  runner.run(checked.request, listener, signal);
}

/** The error with the answer so far; after a loss of the device also in its details, which a log keeps. */
function cutShort(error: KingletError, text: string, ids: number[]): KingletError {
  if (error.code === "DEVICE_LOST") Object.assign(error.details, { text, ids });
  return Object.assign(error, { text, ids });
}

function newHead(prefix: string, runner: Runner): Head {
  const random = crypto.getRandomValues(new Uint8Array(12));
  const id = prefix + Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, created: Math.floor(Date.now() / 1000), model: runner.info.name ?? runner.info.architecture };
}

function usageOf({ promptTokens, cachedTokens, prefillMs, completionTokens, decodeMs }: Stats): Usage {
  const perSecond = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    timings: {
      prompt_ms: prefillMs,
      predicted_ms: decodeMs,
      prompt_per_second: perSecond(promptTokens - cachedTokens, prefillMs),
      predicted_per_second: perSecond(Math.max(completionTokens - 1, 0), decodeMs),
    },
  };
}

function textLogprobs(content: TokenLogprob[], offset: number): CompletionLogprobs {
  let end = offset;
  const starts = content.map(({ token }) => (end += token.length) - token.length);
  return {
    tokens: content.map(({ token }) => token),
    token_logprobs: content.map(({ logprob }) => logprob),
    top_logprobs: content.map((t) => Object.fromEntries(t.top_logprobs.map(({ token, logprob }) => [token, logprob]))),
    text_offset: starts,
    content,
  };
}
