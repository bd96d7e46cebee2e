// What the package gives is what code written for the openai package expects: `npm run check` compiles this.
import type OpenAI from "openai";
import type * as Kinglet from "../../pkg/src/types.ts";
import type * as Routing from "../../pkg/src/router/types.ts";

declare const engine: Kinglet.Engine;
declare const router: Routing.Router;
declare function is<T>(value: T): void;

const messages = [{ role: "user", content: "Hello" }] as const satisfies OpenAI.ChatCompletionMessageParam[];

is<OpenAI.ChatCompletion>(await engine.chat.completions.create({ messages: [...messages] }));
for await (const chunk of await engine.chat.completions.create({ messages: [...messages], stream: true })) is<OpenAI.ChatCompletionChunk>(chunk);
is<OpenAI.Completion>(await engine.completions.create({ prompt: "Once" }));
is<OpenAI.CreateEmbeddingResponse["data"][number]>((await engine.embeddings.create({ input: "a text" })).data[0] as OpenAI.Embedding);
is<Pick<OpenAI.CreateEmbeddingResponse, "object" | "model" | "usage">>(await engine.embeddings.create({ input: ["a", "b"] }));
is<OpenAI.ChatCompletion>(await router.chat.completions.create({ messages: [...messages] }));
for await (const chunk of await router.chat.completions.create({ messages: [...messages], stream: true })) is<OpenAI.ChatCompletionChunk>(chunk);

// What such code asks with.
declare const asked: Pick<
  OpenAI.ChatCompletionCreateParamsNonStreaming,
  "temperature" | "top_p" | "seed" | "stop" | "max_tokens" | "max_completion_tokens" | "logprobs" | "top_logprobs" | "presence_penalty" | "frequency_penalty" | "logit_bias" | "response_format" | "stream_options"
>;
declare const tools: OpenAI.ChatCompletionFunctionTool[];
declare const choice: "none" | "auto" | "required" | OpenAI.ChatCompletionNamedToolChoice;
is<Kinglet.ChatRequest>({ ...asked, tools, tool_choice: choice, messages: [...messages] });

// Several answers to one request.
is<Kinglet.ChatRequest>({ ...({} as Pick<OpenAI.ChatCompletionCreateParamsNonStreaming, "n">), messages: [...messages] });
is<OpenAI.ChatCompletion.Choice[]>((await engine.chat.completions.create({ n: 3, messages: [...messages] })).choices);
is<OpenAI.CompletionChoice[]>((await engine.completions.create({ n: 3, prompt: "Once" })).choices);
for await (const { choices } of await engine.chat.completions.create({ n: 3, messages: [...messages], stream: true })) is<OpenAI.ChatCompletionChunk.Choice[]>(choices);
