// A step of the engine as it comes out of the wasm, and the token that the page is told of.

import type { CallPiece, EngineRequest, Token } from "./protocol.js";
import type { FinishReason, Signals, Stats } from "./types.js";

interface Spelling {
  token_bytes(id: number): Uint8Array;
}

export type Step =
  | { type: "prefill" }
  | { type: "token"; id: number; text: string; reasoning?: string; calls?: CallPiece[]; signals: { logprob: number }; topLogprobs: { id: number; logprob: number }[]; special: boolean; soFar?: Signals }
  | { type: "done"; text: string; reasoning?: string; calls?: CallPiece[]; reason: FinishReason; stats: Stats; signals: Signals };

export function tokenOf({ id, text, reasoning, calls, signals, topLogprobs, special, soFar }: Extract<Step, { type: "token" }>, { options }: EngineRequest, engine: Spelling): Token {
  if (!options.logprobs || special) return { id, text, reasoning, calls, special, soFar };
  const top_logprobs = topLogprobs.map(({ id, logprob }) => ({ ...spell(engine, id), logprob }));
  return { id, text, reasoning, calls, special, soFar, logprobs: { ...spell(engine, id), logprob: signals.logprob, top_logprobs } };
}

function spell(engine: Spelling, id: number): { token: string; bytes: number[] } {
  const bytes = engine.token_bytes(id);
  return { token: new TextDecoder().decode(bytes), bytes: Array.from(bytes) };
}
