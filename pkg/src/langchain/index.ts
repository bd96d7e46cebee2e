// An engine or a router as LangChain's chat model, and an engine's embeddings.

import type { CallbackManagerForLLMRun } from "@langchain/core/callbacks/manager";
import { Embeddings, type EmbeddingsParams } from "@langchain/core/embeddings";
import type { BaseLanguageModelInput, StructuredOutputMethodOptions } from "@langchain/core/language_models/base";
import { BaseChatModel, type BaseChatModelCallOptions, type BaseChatModelParams, type BindToolsInput } from "@langchain/core/language_models/chat_models";
import { assembleStructuredOutputPipeline, createContentParser, createFunctionCallingParser } from "@langchain/core/language_models/structured_output";
import { AIMessageChunk, type BaseMessage } from "@langchain/core/messages";
import { ChatGenerationChunk, type ChatResult } from "@langchain/core/outputs";
import type { Runnable } from "@langchain/core/runnables";
import { convertToOpenAITool } from "@langchain/core/utils/function_calling";
import { toJsonSchema } from "@langchain/core/utils/json_schema";
import { asAborter, checkChat, checkEmbeddings, type Chat, type Chunk } from "../face.js";
import type { ResponseFormat } from "../openai.js";
import type { Engine } from "../types.js";
import { chunkOf, toMessage } from "./messages.js";

/** Of the constructor. */
export interface ChatKingletParams extends BaseChatModelParams {
  /** An engine or a router. */
  model: Chat;
  /** For every request: `{ temperature: 0 }`, or a router's `{ mode: "prefer-local" }`. */
  defaults?: Record<string, unknown>;
}

/** Of one call. */
export interface ChatKingletCallOptions extends BaseChatModelCallOptions {
  tools?: BindToolsInput[];
  response_format?: ResponseFormat;
  /** Put into the request as it is. */
  request?: Record<string, unknown>;
}

/** Of an object by its keys. */
export type Values = Record<string, any>;
/** A schema of zod's or another library's, or a JSON schema. */
export type Schema<T extends Values> = Parameters<typeof createContentParser<T>>[0];

/** An engine or a router as a chat model: `new ChatKinglet({ model: engine, defaults: { temperature: 0 } })`. */
export class ChatKinglet extends BaseChatModel<ChatKingletCallOptions> {
  readonly #model: Chat;
  readonly #defaults: Record<string, unknown>;

  constructor({ model, defaults = {}, ...params }: ChatKingletParams) {
    super(params);
    checkChat(model);
    this.#model = model;
    this.#defaults = defaults;
  }

  static override lc_name(): string {
    return "ChatKinglet";
  }

  /** @internal */
  override _llmType(): string {
    return "kinglet";
  }

  override bindTools(tools: BindToolsInput[], kwargs: Partial<ChatKingletCallOptions> = {}): Runnable<BaseLanguageModelInput, AIMessageChunk, ChatKingletCallOptions> {
    return this.withConfig({ ...kwargs, tools: tools.map((tool) => convertToOpenAITool(tool as Values)) });
  }

  /** Answers keep to the schema: by `response_format`, or with `method: "functionCalling"` by a call that has to be made. */
  override withStructuredOutput<T extends Values = Values>(schema: Schema<T>, config?: StructuredOutputMethodOptions<false>): Runnable<BaseLanguageModelInput, T>;
  override withStructuredOutput<T extends Values = Values>(schema: Schema<T>, config?: StructuredOutputMethodOptions<true>): Runnable<BaseLanguageModelInput, { raw: BaseMessage; parsed: T }>;
  override withStructuredOutput<T extends Values = Values>(schema: Schema<T>, config: StructuredOutputMethodOptions<boolean> = {}) {
    const name = config.name ?? "answer";
    const parameters = toJsonSchema(schema as never) as Record<string, unknown>;
    if (config.method === "functionCalling") {
      const called = this.bindTools([{ type: "function", function: { name, parameters } }], { tool_choice: name });
      return assembleStructuredOutputPipeline<T>(called, createFunctionCallingParser<T>(schema, name), config.includeRaw) as Runnable<BaseLanguageModelInput, any>;
    }
    const said = this.withConfig({ response_format: { type: "json_schema", json_schema: { name, schema: parameters } } });
    return assembleStructuredOutputPipeline<T>(said, createContentParser<T>(schema), config.includeRaw) as Runnable<BaseLanguageModelInput, any>;
  }

  /** @internal */
  override async _generate(messages: BaseMessage[], options: this["ParsedCallOptions"]): Promise<ChatResult> {
    let whole: ChatGenerationChunk | undefined;
    for await (const chunk of this._streamResponseChunks(messages, options)) whole = whole ? whole.concat(chunk) : chunk;
    const { text = "", message = new AIMessageChunk("") } = whole ?? {};
    return { generations: [{ text, message, generationInfo: whole?.generationInfo }] };
  }

  /** @internal */
  override async *_streamResponseChunks(messages: BaseMessage[], options: this["ParsedCallOptions"], runManager?: CallbackManagerForLLMRun): AsyncGenerator<ChatGenerationChunk> {
    const { signal } = options;
    try {
      const chunks = (await this.#model.chat.completions.create(this.#request(messages, options) as never, { signal })) as AsyncIterable<Chunk>;
      for await (const chunk of chunks) {
        const message = chunkOf(chunk);
        const generated = new ChatGenerationChunk({ message, text: message.text });
        yield generated;
        await runManager?.handleLLMNewToken(generated.text, undefined, undefined, undefined, undefined, { chunk: generated });
      }
    } catch (e) {
      throw asAborter(e, signal);
    }
  }

  #request(messages: BaseMessage[], { stop, tools = [], tool_choice: choice, response_format, request }: this["ParsedCallOptions"]): object {
    const converted = tools.map((tool) => convertToOpenAITool(tool as Values));
    return {
      ...this.#defaults,
      ...(stop?.length && { stop }),
      ...(converted.length > 0 && { tools: converted, ...(choice !== undefined && { tool_choice: choiceOf(choice) }) }),
      ...(response_format && { response_format }),
      ...request,
      messages: messages.map(toMessage),
      stream: true,
      stream_options: { include_usage: true },
    };
  }
}

function choiceOf(choice: NonNullable<BaseChatModelCallOptions["tool_choice"]>): unknown {
  if (choice === "any") return "required";
  if (typeof choice !== "string" || ["auto", "none", "required"].includes(choice)) return choice;
  return { type: "function", function: { name: choice } };
}

/** Of an engine: `new KingletEmbeddings({ engine })`. Vectors have length one. */
export class KingletEmbeddings extends Embeddings {
  readonly #engine: Pick<Engine, "embeddings">;

  constructor({ engine, ...params }: EmbeddingsParams & { engine: Pick<Engine, "embeddings"> }) {
    super(params);
    checkEmbeddings(engine);
    this.#engine = engine;
  }

  override async embedDocuments(documents: string[]): Promise<number[][]> {
    if (documents.length === 0) return [];
    const { data } = await this.#engine.embeddings.create({ input: documents });
    return data.map(({ embedding }) => embedding as number[]);
  }

  override async embedQuery(document: string): Promise<number[]> {
    return (await this.embedDocuments([document]))[0]!;
  }
}
