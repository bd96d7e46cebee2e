// An engine or a router as a language model of the AI SDK: version 4 of its interface (ai 7), and a view as version 3 (ai 6).

import type {
  LanguageModelV3, LanguageModelV4, LanguageModelV4CallOptions, LanguageModelV4Content, LanguageModelV4FinishReason,
  LanguageModelV4StreamPart, LanguageModelV4Usage, SharedV4Warning,
} from "@ai-sdk/provider";
import { asAborter, checkChat, type Chat, type Chunk } from "../face.js";
import type { ToolCallPiece } from "../tool-pieces.js";
import { toRequest } from "./request.js";

export type { Chat };
export { embeddingModel, type KingletEmbeddingModel } from "./embedding.js";

/** What stands for the model, and in each request. */
export interface LanguageModelOptions {
  /** Default: the model's own name. */
  modelId?: string;
  /** For every request, below what the call gives: `{ min_p: 0.05 }`, or a router's `{ mode: "prefer-local" }`. */
  defaults?: Record<string, unknown>;
}

/** `providerOptions: { kinglet: {...} }` of a call is put into the request as it is. */
export type KingletLanguageModel = LanguageModelV4 & {
  /** For ai 6. */
  asV3(): LanguageModelV3;
};

type Part = LanguageModelV4StreamPart;

/** A model of the AI SDK on an engine or a router. Throws BAD_REQUEST for anything else. */
export function languageModel(model: Chat, { modelId, defaults = {} }: LanguageModelOptions = {}): KingletLanguageModel {
  checkChat(model);
  const id = modelId ?? model.info?.name ?? model.info?.architecture ?? "router";

  async function* parts(options: LanguageModelV4CallOptions): AsyncGenerator<Part> {
    const { request, warnings } = toRequest(options, defaults);
    const signal = options.abortSignal;
    try {
      const chunks = (await model.chat.completions.create(request as never, { signal })) as AsyncIterable<Chunk>;
      yield { type: "stream-start", warnings };
      yield* translate(chunks, options.includeRawChunks ?? false);
    } catch (e) {
      throw asAborter(e, signal);
    }
  }

  const v4: KingletLanguageModel = {
    specificationVersion: "v4",
    provider: "kinglet",
    modelId: id,
    supportedUrls: {},
    async doStream(options) {
      const source = parts(options);
      // What is refused, is refused at once.
      const first = await source.next();
      let held: Part | undefined = first.done ? undefined : first.value;
      return {
        stream: new ReadableStream<Part>({
          async pull(controller) {
            if (held) return controller.enqueue(held), void (held = undefined);
            try {
              const next = await source.next();
              if (next.done) controller.close();
              else controller.enqueue(next.value);
            } catch (e) {
              controller.error(e);
            }
          },
          cancel: () => source.return(undefined).then(() => {}),
        }),
      };
    },
    async doGenerate(options) {
      const content: LanguageModelV4Content[] = [];
      const open = new Map<string, { type: "text" | "reasoning"; text: string }>();
      let warnings: SharedV4Warning[] = [];
      let response: { id?: string; modelId?: string; timestamp?: Date } | undefined;
      let finish: Extract<Part, { type: "finish" }> | undefined;
      for await (const part of parts(options)) {
        if (part.type === "stream-start") ({ warnings } = part);
        if (part.type === "response-metadata") response = { id: part.id, modelId: part.modelId, timestamp: part.timestamp };
        if (part.type === "text-start" || part.type === "reasoning-start") {
          const block = { type: part.type === "text-start" ? ("text" as const) : ("reasoning" as const), text: "" };
          open.set(part.id, block);
          content.push(block);
        }
        if (part.type === "text-delta" || part.type === "reasoning-delta") open.get(part.id)!.text += part.delta;
        if (part.type === "tool-call") content.push(part);
        if (part.type === "finish") finish = part;
      }
      const { finishReason, usage, providerMetadata } = finish!;
      return { content, finishReason, usage, providerMetadata, response, warnings };
    },
    // What the two versions have in common is all that is used; "interrupted" and the new parts never occur.
    asV3: () => ({ ...v4, specificationVersion: "v3" }) as unknown as LanguageModelV3,
  };
  return v4;
}

async function* translate(chunks: AsyncIterable<Chunk>, raw: boolean): AsyncGenerator<Part> {
  let block: { type: "text" | "reasoning"; id: string } | undefined;
  let blocks = 0;
  const calls = new Map<number, { id: string; name: string; arguments: string }>();
  let reason: LanguageModelV4FinishReason = { unified: "other", raw: undefined };
  let usage: LanguageModelV4Usage = usageOf(undefined);
  let metadata: Record<string, unknown> = {};
  const end = (): Part[] => (block ? [{ type: `${block.type}-end`, id: block.id }] : []);
  const write = function* (type: "text" | "reasoning", delta: string | null | undefined): Generator<Part> {
    if (!delta) return;
    if (block?.type !== type) {
      yield* end();
      block = { type, id: String(blocks++) };
      yield { type: `${type}-start`, id: block.id };
    }
    yield { type: `${type}-delta`, id: block.id, delta };
  };
  let told = false;
  for await (const chunk of chunks) {
    if (raw) yield { type: "raw", rawValue: chunk };
    if (!told) yield { type: "response-metadata", id: chunk.id, modelId: chunk.model, timestamp: new Date(chunk.created * 1000) };
    told = true;
    if (chunk.usage) usage = usageOf(chunk.usage);
    const choice = chunk.choices[0];
    if (!choice) continue;
    yield* write("reasoning", choice.delta.reasoning_content);
    yield* write("text", choice.delta.content);
    for (const piece of choice.delta.tool_calls ?? []) yield* toolCall(calls, piece);
    if (choice.finish_reason) {
      reason = { unified: REASONS[choice.finish_reason] ?? "other", raw: choice.finish_reason };
      metadata = { ...(chunk.signals && { signals: chunk.signals }), ...(chunk.router && { router: chunk.router }) };
    }
  }
  yield* end();
  for (const { id, name, arguments: input } of calls.values()) {
    yield { type: "tool-input-end", id };
    yield { type: "tool-call", toolCallId: id, toolName: name, input: input || "{}" };
  }
  yield { type: "finish", finishReason: reason, usage, providerMetadata: { kinglet: metadata as never } };
}

function* toolCall(calls: Map<number, { id: string; name: string; arguments: string }>, piece: ToolCallPiece): Generator<Part> {
  const index = piece.index ?? 0;
  let call = calls.get(index);
  if (!call) {
    call = { id: piece.id || `call_${index}`, name: piece.function?.name ?? "", arguments: "" };
    calls.set(index, call);
    yield { type: "tool-input-start", id: call.id, toolName: call.name };
  }
  const delta = piece.function?.arguments;
  if (!delta) return;
  call.arguments += delta;
  yield { type: "tool-input-delta", id: call.id, delta };
}

const REASONS: Record<string, LanguageModelV4FinishReason["unified"]> = { stop: "stop", length: "length", tool_calls: "tool-calls", content_filter: "content-filter" };

function usageOf(usage: Chunk["usage"] | undefined): LanguageModelV4Usage {
  const cached = usage?.prompt_tokens_details?.cached_tokens;
  const total = usage?.prompt_tokens;
  return {
    inputTokens: { total, noCache: total !== undefined && cached !== undefined ? total - cached : undefined, cacheRead: cached, cacheWrite: undefined },
    outputTokens: { total: usage?.completion_tokens, text: undefined, reasoning: undefined },
  };
}
