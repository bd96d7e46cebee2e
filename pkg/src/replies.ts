// OpenAI's shapes of replies and their chunks, and the usage of a run.

import type { Finish } from "./protocol.js";
import type { Runner } from "./engine.js";
import type { ChatCompletionChunk, CompletionChunk, CompletionLogprobs, Stats, TokenLogprob, ToolCallDelta, Usage } from "./types.js";

/** How one of the two endpoints spells its replies. */
export interface Shape<Chunk> {
  /** Before any text; chats announce the role. */
  opening?(head: Head, index: number): Chunk;
  piece(head: Head, piece: Piece): Chunk;
  /** The usage alone, no choices. */
  usage(head: Head, usage: Usage): Chunk;
}

export interface Head {
  id: string;
  created: number;
  model: string;
}

export interface Piece {
  /** Of the choice. */
  index: number;
  text: string;
  reasoning?: string;
  calls?: ToolCallDelta[];
  ids: number[];
  /** Where `text` starts in the answer. */
  offset: number;
  logprobs: TokenLogprob[] | null;
  reason: Finish["reason"] | null;
}

export const chatChunks: Shape<ChatCompletionChunk> = {
  opening: (head, index) => chatChunk(head, [{ index, delta: { role: "assistant", content: "" }, logprobs: null, finish_reason: null, token_ids: [] }]),
  piece: (head, { index, text, reasoning, calls = [], ids, logprobs, reason }) => {
    const other = { ...(reasoning && { reasoning_content: reasoning }), ...(calls.length > 0 && { tool_calls: calls }) };
    const delta = text === "" && (reason || reasoning || calls.length > 0) ? other : { ...other, content: text };
    return chatChunk(head, [{ index, delta, logprobs: logprobs && { content: logprobs, refusal: null }, finish_reason: reason, token_ids: ids }]);
  },
  usage: (head, usage) => ({ ...chatChunk(head, []), usage }),
};

function chatChunk(head: Head, choices: ChatCompletionChunk["choices"]): ChatCompletionChunk {
  return { ...head, object: "chat.completion.chunk", choices };
}

export const textChunks: Shape<CompletionChunk> = {
  piece: (head, { index, text, ids, offset, logprobs, reason }) => {
    const choice = { index, text, logprobs: logprobs && textLogprobs(logprobs, offset), finish_reason: reason as "stop" | "length" | null, token_ids: ids } as const;
    return { ...head, object: "text_completion", choices: [choice] };
  },
  usage: (head, usage) => ({ ...head, object: "text_completion", choices: [], usage }),
};

export function newHead(prefix: string, runner: Runner): Head {
  const random = crypto.getRandomValues(new Uint8Array(12));
  const id = prefix + Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return { id, created: Math.floor(Date.now() / 1000), model: runner.info.name ?? runner.info.architecture };
}

/** Of all choices: the prompt is that of the first; the others' step to their first token counts as one of writing. */
export function usageOf([first, ...others]: Stats[]): Usage {
  const { promptTokens, cachedTokens, prefillMs } = first!;
  const decodeMs = others.reduce((sum, stats) => sum + stats.prefillMs + stats.decodeMs, first!.decodeMs);
  const sum = (count: (stats: Stats) => number) => [first!, ...others].reduce((all, stats) => all + count(stats), 0);
  const completionTokens = sum((stats) => stats.completionTokens);
  const accepted = sum((stats) => stats.predictedAcceptedTokens);
  const perSecond = (tokens: number, ms: number) => (ms > 0 ? (tokens * 1000) / ms : 0);
  return {
    prompt_tokens: promptTokens,
    completion_tokens: completionTokens,
    total_tokens: promptTokens + completionTokens,
    prompt_tokens_details: { cached_tokens: cachedTokens },
    completion_tokens_details: { accepted_prediction_tokens: accepted, rejected_prediction_tokens: sum((stats) => stats.predictedDraftedTokens) - accepted },
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
