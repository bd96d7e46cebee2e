// OpenAI's embeddings, from the model's hidden states.

import { badRequest } from "./errors.js";
import type { Runner } from "./engine.js";
import type { Embedded } from "./protocol.js";
import type { EmbeddingRequest, EmbeddingResponse, RequestOptions } from "./types.js";

const KNOWN = new Set(["input", "encoding_format", "model", "user"]);
/** As many as OpenAI takes. */
export const MOST_TEXTS = 2048;

export function createEmbeddings(runner: Runner) {
  return async (body: EmbeddingRequest, options?: RequestOptions): Promise<EmbeddingResponse> => {
    if (typeof body !== "object" || body === null) throw badRequest("the request", "must be an object");
    const { encoding_format: format, dimensions } = body;
    const inputs = listInputs(body.input, runner.info.vocabulary);
    if (format !== undefined && format !== null && !["float", "base64"].includes(format)) throw badRequest("encoding_format", 'must be "float" or "base64"');
    if (dimensions !== undefined && dimensions !== null) throw badRequest("dimensions", "cannot be chosen: these embeddings are as wide as the model");
    for (const name of Object.keys(body)) if (!KNOWN.has(name)) runner.report(name);
    const embedded = await new Promise<Embedded[]>((resolve, reject) => {
      const listener = { onStart() {}, onTokens() {}, onEnd() {}, onEmbedded: resolve, onError: reject };
      runner.run({ options: {}, embed: inputs }, listener, options?.signal ?? new AbortController().signal);
    });
    const tokens = embedded.reduce((sum, { tokens }) => sum + tokens, 0);
    return {
      object: "list",
      data: embedded.map(({ embedding }, index) => ({ object: "embedding", index, embedding: format === "base64" ? base64(embedding) : embedding })),
      model: runner.info.name ?? runner.info.architecture,
      usage: { prompt_tokens: tokens, total_tokens: tokens },
    };
  };
}

function listInputs(input: unknown, vocabulary: number): (string | number[])[] {
  const ids = (value: unknown): value is number[] => Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0 && id < vocabulary);
  if (typeof input === "string") return [input];
  if (ids(input)) return [input];
  const listed = Array.isArray(input) && input.length > 0 && input.length <= MOST_TEXTS;
  if (!listed || !input.every((one) => typeof one === "string" || ids(one))) {
    throw badRequest("input", `must be a string, a list of token ids from 0 to ${vocabulary - 1}, or a list of 1 to ${MOST_TEXTS} of either`);
  }
  return input;
}

function base64(floats: number[]): string {
  const bytes = new Uint8Array(4 * floats.length);
  const view = new DataView(bytes.buffer);
  floats.forEach((x, i) => view.setFloat32(4 * i, x, true));
  return btoa(String.fromCharCode(...bytes));
}
