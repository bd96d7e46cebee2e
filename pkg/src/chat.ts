// Chat and raw completions, whole and streamed: one run of the engine for each choice.

import type { KingletError } from "./errors.js";
import type { Runner } from "./engine.js";
import type { CallPiece, EngineRequest, Finish, Token } from "./protocol.js";
import { checkChat, checkCompletion, type Checked } from "./request.js";
import { chatChunks, newHead, textChunks, usageOf, type Head, type Piece, type Shape } from "./replies.js";
import { ChunkStream } from "./stream.js";
import { Calls } from "./tools.js";
import type {
  ChatCompletion, ChatCompletionChunk, ChatRequest, Completion, CompletionChunk, CompletionRequest, Create, RequestOptions, Stats, Stream, TokenLogprob,
} from "./types.js";

export function createChat(runner: Runner): Create<ChatRequest, ChatCompletion, ChatCompletionChunk> {
  return (async (body: ChatRequest, options?: RequestOptions) => {
    const checked = checkChat(body);
    const head = newHead("chatcmpl-", runner);
    if (checked.stream) return streamed(runner, checked, head, chatChunks, options);
    const answers = await whole(runner, checked, options);
    const choices = answers.map(({ text, reasoning, calls, ids, logprobs, finish }, index) => {
      const content = calls.length > 0 && text === "" ? null : text;
      const message = { role: "assistant", content, ...(reasoning && { reasoning_content: reasoning }), ...(calls.length > 0 && { tool_calls: calls }), refusal: null } as const;
      return { index, message, logprobs: logprobs && { content: logprobs, refusal: null }, finish_reason: finish.reason, token_ids: ids, ...signalsOf(finish, answers) };
    });
    return { ...head, object: "chat.completion", choices: choices as ChatCompletion["choices"], ...about(answers) } satisfies ChatCompletion;
  }) as Create<ChatRequest, ChatCompletion, ChatCompletionChunk>;
}

export function createCompletions(runner: Runner): Create<CompletionRequest, Completion, CompletionChunk> {
  return (async (body: CompletionRequest, options?: RequestOptions) => {
    const checked = checkCompletion(body);
    const head = newHead("cmpl-", runner);
    if (checked.stream) return streamed(runner, checked, head, textChunks, options);
    const answers = await whole(runner, checked, options);
    const choices = answers.map(({ text, ids, logprobs, finish }, index) => {
      const [choice] = textChunks.piece(head, { index, text, ids, offset: 0, logprobs, reason: finish.reason }).choices;
      return { ...choice, ...signalsOf(finish, answers) };
    });
    return { ...head, object: "text_completion", choices: choices as unknown as Completion["choices"], ...about(answers) } satisfies Completion;
  }) as Create<CompletionRequest, Completion, CompletionChunk>;
}

interface Whole {
  text: string;
  reasoning: string;
  calls: Calls["whole"];
  ids: number[];
  logprobs: TokenLogprob[] | null;
  finish: Finish;
}

/** All choices. Where one fails, the others end, and the error has what there is of each. */
async function whole(runner: Runner, checked: Checked, options?: RequestOptions): Promise<Whole[]> {
  const { controller, settled } = linked(options?.signal);
  const answers = requestsOf(runner, checked).map((request) => {
    const answer = one(runner, request, controller.signal);
    answer.catch(() => controller.abort());
    return answer;
  });
  const ends = await Promise.allSettled(answers);
  settled();
  const failed = ends.find((end) => end.status === "rejected");
  if (!failed) return ends.map((end) => (end as PromiseFulfilledResult<Whole>).value);
  throw withChoices(failed.reason, ends.map((end) => (end.status === "fulfilled" ? end.value.text : end.reason.text)));
}

function one(runner: Runner, request: EngineRequest, signal: AbortSignal): Promise<Whole> {
  return new Promise((resolve, reject) => {
    const calls = new Calls();
    const ids: number[] = [];
    const logprobs: TokenLogprob[] | null = request.options.logprobs ? [] : null;
    let text = "";
    let reasoning = "";
    const take = (token: Token) => {
      text += token.text;
      reasoning += token.reasoning ?? "";
      calls.take(token.calls);
      ids.push(token.id);
      if (token.logprobs) logprobs?.push(token.logprobs);
    };
    runner.run(request, {
      onStart() {},
      onTokens: (tokens) => tokens.forEach(take),
      onEnd(finish) {
        calls.take(finish.calls);
        resolve({ text: text + finish.text, reasoning: reasoning + (finish.reasoning ?? ""), calls: calls.whole, ids, logprobs, finish });
      },
      onError: (error) => reject(cutShort(error, text, ids)),
    }, signal);
  });
}

function streamed<Chunk extends ChatCompletionChunk | CompletionChunk>(runner: Runner, checked: Checked, head: Head, shape: Shape<Chunk>, options?: RequestOptions): Promise<Stream<Chunk>> {
  const { controller, settled } = linked(options?.signal);
  return new Promise((resolve, reject) => {
    const stream = new ChunkStream<Chunk>(controller);
    const texts: string[] = [];
    const ends: Stats[] = [];
    let failed = false;
    requestsOf(runner, checked).forEach((request, index, { length }) => {
      const wantsLogprobs = request.options.logprobs === true;
      const ids: number[] = [];
      let pending: number[] = []; // ids whose text is still held back
      const calls = new Calls();
      texts[index] = "";
      const push = ({ calls: pieces, ...piece }: Omit<Piece, "index" | "offset" | "ids" | "calls"> & { calls?: CallPiece[] }, more?: object) => {
        const chunk = shape.piece(head, { ...piece, index, calls: calls.take(pieces), ids: pending, offset: texts[index]!.length });
        stream.push(more ? { ...chunk, ...more } : chunk);
        texts[index] += piece.text;
        pending = [];
      };
      runner.run(request, {
        onStart() {
          if (shape.opening) stream.push(shape.opening(head, index));
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
          push({ text: rest, reasoning, calls, logprobs: null, reason }, { signals, made_for: madeFor });
          ends.push(stats);
          if (ends.length < length) return;
          settled();
          if (checked.includeUsage) stream.push(shape.usage(head, usageOf(ends)));
          stream.end();
        },
        onError(error) {
          if (failed) return;
          failed = true;
          settled();
          controller.abort(); // the other choices
          const cut = withChoices(cutShort(error, texts[index]!, ids), texts);
          stream.fail(cut);
          reject(cut); // before the start; afterwards it is resolved already
        },
      }, controller.signal);
    });
  });
}

/** One for each choice, next to each other in the engine's queue, so that the prompt is read once. */
function requestsOf(runner: Runner, { request, n, ignored }: Checked): EngineRequest[] {
  ignored.forEach((option) => runner.report(option));
  const { seed } = request.options as { seed?: number };
  return Array.from({ length: n }, (_, i) => (i > 0 && seed !== undefined ? { ...request, options: { ...request.options, seed: seed + i } } : request));
}

/** A controller that the caller's signal aborts too, until it is settled. */
function linked(signal?: AbortSignal) {
  const controller = new AbortController();
  const forward = () => controller.abort(signal?.reason);
  if (signal?.aborted) forward();
  else signal?.addEventListener("abort", forward, { once: true });
  return { controller, settled: () => signal?.removeEventListener("abort", forward) };
}

/** Each choice has its own where there are several. */
const signalsOf = ({ signals }: Finish, answers: Whole[]) => (answers.length > 1 ? { signals } : {});

function about(answers: Whole[]) {
  const { signals, madeFor } = answers[0]!.finish;
  return { usage: usageOf(answers.map(({ finish }) => finish.stats)), signals, made_for: madeFor };
}

function withChoices(error: KingletError, texts: (string | undefined)[]): KingletError {
  if (texts.length > 1) error.details.choices = texts.map((text) => text ?? "");
  return error;
}

/** The error with the answer so far; after a loss of the device also in its details, which a log keeps. */
function cutShort(error: KingletError, text: string, ids: number[]): KingletError {
  if (error.code === "DEVICE_LOST") Object.assign(error.details, { text, ids });
  return Object.assign(error, { text, ids });
}
