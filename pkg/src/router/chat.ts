// The engine's face in front of the router: OpenAI's chat completions, whole and streamed.

import { badRequest } from "../errors.js";
import { ChunkStream } from "../stream.js";
import type { RequestOptions } from "../openai.js";
import type { Create, Stream } from "../types.js";
import type { Question } from "./question.js";
import type { Answer, AskRequest, Mode, Routed, RoutedChunk, RoutedCompletion } from "./types.js";

interface Asker {
  mode: Mode;
  /** The names of the two models. */
  models: { local: string; cloud: string };
  ask(request: AskRequest, options?: RequestOptions): Question;
}

type Usage = RoutedCompletion["usage"];

export function createChat(asker: Asker): Create<AskRequest, RoutedCompletion, RoutedChunk> {
  return (async (body: AskRequest, options?: RequestOptions) => {
    if (typeof body !== "object" || body === null) throw badRequest("the request", "must be an object");
    const { stream, ...request } = body;
    // Nothing that this face has said can be taken back.
    const hold = (body.mode ?? asker.mode) !== "only-local";
    const question = asker.ask({ ...request, hold }, options);
    const head = { id: `chatcmpl-${crypto.randomUUID()}`, created: Math.floor(Date.now() / 1000) };
    if (stream) return streamed(question, (answer) => model(asker, answer), head, body.stream_options?.include_usage === true);
    const answer = await question.answer;
    const { text, reasoning, toolCalls, finish } = answer;
    const message = {
      role: "assistant", content: text, refusal: null,
      ...(reasoning && { reasoning_content: reasoning }),
      ...(toolCalls.length > 0 && { tool_calls: toolCalls }),
    } as const;
    return {
      ...head, model: model(asker, answer), object: "chat.completion",
      choices: [{ index: 0, message, logprobs: null, finish_reason: finish }],
      usage: usage(answer), router: routed(answer),
    } satisfies RoutedCompletion;
  }) as Create<AskRequest, RoutedCompletion, RoutedChunk>;
}

async function streamed(question: Question, modelOf: (answer?: Answer) => string, head: { id: string; created: number }, withUsage: boolean): Promise<Stream<RoutedChunk>> {
  const controller = new AbortController();
  controller.signal.addEventListener("abort", question.abort, { once: true });
  const stream = new ChunkStream<RoutedChunk>(controller);
  const push = (delta: RoutedChunk["choices"][number]["delta"], end?: Answer) => {
    const choices: RoutedChunk["choices"] = [{ index: 0, delta, logprobs: null, finish_reason: end?.finish ?? null }];
    stream.push({ ...head, object: "chat.completion.chunk", model: modelOf(end), choices, ...(end && { router: routed(end) }) });
  };
  const events = question[Symbol.asyncIterator]();
  const forward = async () => {
    push({ role: "assistant", content: "" });
    for (let next; !(next = await events.next()).done; ) {
      const event = next.value;
      if (event.type === "token") push({ content: event.text });
      if (event.type !== "final") continue;
      const { answer } = event;
      const toolCalls = answer.toolCalls.map((call, index) => ({ index, ...call }));
      push({ ...(answer.reasoning && { reasoning_content: answer.reasoning }), ...(toolCalls.length > 0 && { tool_calls: toolCalls }) }, answer);
      if (withUsage) stream.push({ ...head, object: "chat.completion.chunk", model: modelOf(answer), choices: [], usage: usage(answer) });
    }
    stream.end();
  };
  forward().catch((e: unknown) => stream.fail(e));
  return stream;
}

function model(asker: Asker, answer?: Answer): string {
  return answer?.source === "cloud" ? asker.models.cloud : asker.models.local;
}

function usage({ usage: { input, output } }: Answer): Usage {
  return { prompt_tokens: input, completion_tokens: output, total_tokens: input + output };
}

function routed({ source, confidence, degraded, record }: Answer): Routed {
  return { source, confidence, degraded, record };
}
