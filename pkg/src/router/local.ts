// The local model's side of a question: its stream as the core's events.

import type { MadeFor, Signals, ToolCall } from "../openai.js";
import { addPiece, type ToolCallPiece } from "../tool-pieces.js";
import type { AskRequest, LocalModel } from "./types.js";

export interface LocalListener {
  token(text: string): void;
  /** Of the answer so far. */
  check(tokens: number, signals: Signals): void;
  done(end: LocalEnd, madeFor: MadeFor | undefined): void;
}

/** `LocalEnd` of src/router/machine/event.rs. */
export interface LocalEnd {
  finish: string;
  reasoning: string;
  toolCalls: ToolCall[];
  weakToolCall: boolean;
  features: Signals;
  promptTokens: number;
  completionTokens: number;
}

/** What is read of a chunk; our engine's has more than others'. */
interface Chunk {
  choices?: {
    delta?: { content?: string | null; reasoning_content?: string | null; tool_calls?: ToolCallPiece[] | null } | null;
    finish_reason?: string | null;
    token_ids?: number[];
    logprobs?: { content?: { logprob: number }[] | null } | null;
  }[];
  usage?: { prompt_tokens?: number; completion_tokens?: number } | null;
  signals?: Signals;
  made_for?: MadeFor;
}

/** Settings of the router, which are no model's business. */
export function parameters(request: AskRequest): Record<string, unknown> {
  const { messages: _, mode: __, hold: ___, private: ____, pre: _____, stream: ______, stream_options: _______, model: ________, ...params } = request;
  return params;
}

/** A token of a call that is less likely than one in four: the name or an argument is a guess. */
const WEAK = Math.log(1 / 4);

/** Rejects with what the model rejects with. */
export async function runLocal(model: LocalModel, request: AskRequest, signal: AbortSignal, to: LocalListener): Promise<void> {
  // Of a call of a tool each token counts.
  const logprobs = request.tools?.length ? { logprobs: true } : {};
  const body = { ...parameters(request), ...logprobs, messages: request.messages, stream: true, stream_options: { include_usage: true } };
  const chunks = (await model.chat.completions.create(body as never, { signal })) as AsyncIterable<Chunk>;
  const end: LocalEnd = { finish: "stop", reasoning: "", toolCalls: [], weakToolCall: false, features: {}, promptTokens: 0, completionTokens: 0 };
  let madeFor: MadeFor | undefined;
  let tokens = 0;
  for await (const { choices, usage, signals, made_for } of chunks) {
    const choice = choices?.[0];
    tokens += choice?.token_ids?.length ?? 0;
    end.reasoning += choice?.delta?.reasoning_content ?? "";
    for (const piece of choice?.delta?.tool_calls ?? []) {
      addPiece(end.toolCalls, piece);
      end.weakToolCall ||= choice?.logprobs?.content?.some(({ logprob }) => logprob < WEAK) ?? false;
    }
    if (choice?.delta?.content) to.token(choice.delta.content);
    if (choice?.finish_reason) {
      end.finish = choice.finish_reason;
      end.features = signals ?? {};
      madeFor = made_for;
    } else if (signals) to.check(tokens, signals);
    if (usage) Object.assign(end, { promptTokens: usage.prompt_tokens ?? 0, completionTokens: usage.completion_tokens ?? tokens });
  }
  to.done(end, madeFor);
}
