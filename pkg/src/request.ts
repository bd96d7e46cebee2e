// A request's options, checked by name before anything runs, in the engine's own form.
//
// Options that would change the answer and cannot be honoured are refused; unknown ones are ignored, as OpenAI's clients
// send many that mean nothing here, and reported as events.

import { badRequest, KingletError } from "./errors.js";
import type { EngineRequest } from "./protocol.js";
import { checkStructure } from "./structured.js";
import type { ChatRequest, CompletionRequest, Prefix } from "./types.js";

export interface Checked {
  request: EngineRequest;
  stream: boolean;
  /** Answers wanted. */
  n: number;
  includeUsage: boolean;
  ignored: string[];
}

type Check = (value: unknown) => string | undefined;

const number = (test: (n: number) => boolean, rule: string): Check => (v) =>
  typeof v === "number" && Number.isFinite(v) && test(v) ? undefined : `must be ${rule}`;
const integer = (min: number, max = Number.MAX_SAFE_INTEGER): Check =>
  number((n) => Number.isSafeInteger(n) && n >= min && n <= max, max === Number.MAX_SAFE_INTEGER ? `an integer of at least ${min}` : `an integer from ${min} to ${max}`);
const range = (min: number, max: number): Check => number((n) => n >= min && n <= max, `a number from ${min} to ${max}`);
const boolean: Check = (v) => (typeof v === "boolean" ? undefined : "must be true or false");

/** Passed on as they are. */
const SAMPLING: Record<string, Check> = {
  max_tokens: integer(1),
  temperature: range(0, 100),
  top_k: integer(0),
  top_p: range(0, 1),
  min_p: range(0, 1),
  repeat_penalty: number((n) => n > 0, "a number above 0"),
  presence_penalty: range(-100, 100),
  frequency_penalty: range(-100, 100),
  seed: integer(0),
  ignore_eos: boolean,
  cache_prompt: boolean,
  top_logprobs: integer(0, 20),
  drafts: (v) => (["auto", "always", "never"].includes(v as string) ? undefined : 'must be "auto", "always" or "never"'),
};

/** What would change the answer but is not there yet; the value that changes nothing passes. */
const REFUSED: Record<string, (value: unknown) => boolean> = {
  best_of: (v) => v === 1,
  echo: (v) => v === false,
  functions: (v) => Array.isArray(v) && v.length === 0,
  function_call: (v) => v === "none" || v === "auto",
  web_search_options: () => false,
  modalities: (v) => Array.isArray(v) && v.every((m) => m === "text"),
};

/** As OpenAI's. */
const MOST_CHOICES = 128;

const EFFORTS = ["none", "minimal", "low", "medium", "high", "xhigh"];

/** Handled below, or OpenAI's bookkeeping that means nothing on a device. */
const KNOWN = new Set([
  ...Object.keys(SAMPLING), ...Object.keys(REFUSED), "n", "messages", "prompt", "suffix", "chat_template_kwargs", "reasoning_effort", "continue_final_message", "stream", "stream_options", "stop", "logit_bias", "logprobs", "adapters",
  "max_completion_tokens", "model", "user", "store", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "parallel_tool_calls",
  "tools", "tool_choice", "response_format", "prediction",
]);

export function checkChat(body: ChatRequest): Checked {
  const checked = checkCommon(body);
  if (!Array.isArray(body.messages) || body.messages.length === 0) throw badRequest("messages", "must be a list of at least one message");
  checked.request.messages = body.messages.map(checkMessage);
  if (set(body.suffix) && body.suffix !== "") throw badRequest("suffix", "goes with completions.create, not with a chat");
  const { chat_template_kwargs: kwargs, reasoning_effort: effort } = body;
  if (set(kwargs)) {
    const problem = object(kwargs);
    if (problem) throw badRequest("chat_template_kwargs", problem);
    checked.request.chat_template_kwargs = kwargs as Record<string, unknown>;
  }
  if (set(effort)) {
    if (!EFFORTS.includes(effort as string)) throw badRequest("reasoning_effort", `must be one of ${EFFORTS.join(", ")}`);
    checked.request.reasoning_effort = effort as string;
  }
  if (set(body.continue_final_message)) {
    const problem = boolean(body.continue_final_message);
    if (problem) throw badRequest("continue_final_message", problem);
    checked.request.continue_final_message = body.continue_final_message as boolean;
  }
  if (set(body.logprobs) && typeof body.logprobs !== "boolean") throw badRequest("logprobs", "must be true or false");
  return finish(checked, body.logprobs === true);
}

/** The beginning of every conversation. */
export function checkPrefix(prefix: Prefix): EngineRequest {
  try {
    const { messages, tools, chat_template_kwargs, reasoning_effort } = Object(prefix) as Prefix;
    return checkChat({ messages, tools, chat_template_kwargs, reasoning_effort }).request;
  } catch (e) {
    throw e instanceof KingletError ? badRequest("prefix", `cannot begin a chat: ${e.message}`) : e;
  }
}

export function checkCompletion(body: CompletionRequest): Checked {
  const checked = checkCommon(body);
  if (typeof body.prompt !== "string") throw badRequest("prompt", "must be a string (one text, not a list)");
  checked.request.prompt = body.prompt;
  if (set(body.suffix) && typeof body.suffix !== "string") throw badRequest("suffix", "must be a string");
  if (body.suffix) checked.request.suffix = body.suffix;
  const { logprobs } = body;
  if (typeof logprobs === "number") {
    const problem = integer(0, 20)(logprobs);
    if (problem) throw badRequest("logprobs", problem);
    checked.request.options.top_logprobs ??= logprobs;
  } else if (set(logprobs) && typeof logprobs !== "boolean") {
    throw badRequest("logprobs", "must be true, false or a number");
  }
  return finish(checked, logprobs === true || typeof logprobs === "number");
}

/** JSON's null is OpenAI's "not given". */
function set(value: unknown): boolean {
  return value !== undefined && value !== null;
}

function finish(checked: Checked, logprobs: boolean): Checked {
  const { options } = checked.request;
  if (set(options.top_logprobs) && !logprobs) throw badRequest("top_logprobs", "needs logprobs: true");
  options.logprobs = logprobs;
  return checked;
}

function checkCommon(body: ChatRequest | CompletionRequest): Checked {
  if (typeof body !== "object" || body === null) throw badRequest("the request", "must be an object");
  const options: EngineRequest["options"] = {};
  for (const [name, check] of Object.entries(SAMPLING)) {
    if (!set(body[name])) continue;
    const problem = check(body[name]);
    if (problem) throw badRequest(name, problem);
    options[name] = body[name];
  }
  for (const [name, harmless] of Object.entries(REFUSED)) {
    if (set(body[name]) && !harmless(body[name])) throw badRequest(name, "is not supported in this version; leave it out");
  }
  if (set(body.max_completion_tokens)) {
    const problem = integer(1)(body.max_completion_tokens);
    if (problem) throw badRequest("max_completion_tokens", problem);
    options.max_tokens = body.max_completion_tokens;
  }
  const problem = set(body.n) ? integer(1, MOST_CHOICES)(body.n) : undefined;
  if (problem) throw badRequest("n", problem);
  if (set(body.stop)) options.stop = checkStop(body.stop);
  if (set(body.logit_bias)) options.logit_bias = checkBias(body.logit_bias);
  if (set(body.adapters)) options.adapters = checkAdapters(body.adapters);
  for (const [name, check] of [["stream", boolean], ["stream_options", object]] as const) {
    const problem = set(body[name]) ? check(body[name]) : undefined;
    if (problem) throw badRequest(name, problem);
  }
  const prediction = set(body.prediction) ? { prediction: checkPrediction(body.prediction) } : {};
  return {
    request: { options, ...prediction, ...checkStructure(body) },
    stream: body.stream === true,
    n: body.n ?? 1,
    includeUsage: body.stream_options?.include_usage === true,
    ignored: Object.keys(body).filter((name) => !KNOWN.has(name) && body[name] !== undefined),
  };
}

const object: Check = (v) => (typeof v === "object" && !Array.isArray(v) ? undefined : "must be an object");

function checkPrediction(prediction: unknown): string {
  const { type, content } = Object(prediction) as { type?: unknown; content?: unknown };
  const text = type === "content" ? flatten(content, "prediction.content") : null;
  if (text === null) throw badRequest("prediction", 'must be { type: "content", content } with a text');
  return text;
}

function checkStop(stop: unknown): string[] {
  const list = typeof stop === "string" ? [stop] : stop;
  if (!Array.isArray(list) || list.length > 16 || !list.every((s) => typeof s === "string" && s !== "")) {
    throw badRequest("stop", "must be a string that is not empty, or a list of at most 16 of them");
  }
  return list;
}

function checkBias(bias: unknown): Record<string, number> {
  const entries = typeof bias === "object" ? Object.entries(bias as object) : [];
  if (object(bias) || !entries.every(([id, b]) => /^\d{1,9}$/.test(id) && Number.isFinite(b) && Math.abs(b) <= 100)) {
    throw badRequest("logit_bias", "must map token ids to numbers from -100 to 100");
  }
  return bias as Record<string, number>;
}

function checkAdapters(adapters: unknown): { id: number; scale: number }[] {
  if (!Array.isArray(adapters)) throw badRequest("adapters", "must be a list of { id, scale }");
  return adapters.map((adapter: { id?: unknown; scale?: unknown } | null, i) => {
    const { id, scale = 1 } = adapter ?? {};
    const problem = integer(0, 2 ** 32 - 1)(id);
    if (problem) throw badRequest(`adapters[${i}].id`, `${problem}, which loadAdapter gave`);
    const wrong = range(-100, 100)(scale);
    if (wrong) throw badRequest(`adapters[${i}].scale`, wrong);
    return { id: id as number, scale: scale as number };
  });
}

const ROLES = new Set(["system", "developer", "user", "assistant", "tool"]);

/** Text parts become one string; "developer" is today's name of "system". Other fields are the template's business. */
function checkMessage(message: unknown, i: number): unknown {
  const at = `messages[${i}]`;
  if (typeof message !== "object" || message === null) throw badRequest(at, "must be an object with role and content");
  const { role, content } = message as Record<string, unknown>;
  if (typeof role !== "string" || !ROLES.has(role)) throw badRequest(`${at}.role`, `must be one of ${[...ROLES].join(", ")}`);
  return { ...message, role: role === "developer" ? "system" : role, content: flatten(content, `${at}.content`) };
}

function flatten(content: unknown, at: string): string | null {
  if (typeof content === "string" || content === null) return content;
  if (content === undefined) return null;
  if (!Array.isArray(content)) throw badRequest(at, "must be a string or a list of text parts");
  return content
    .map((part: { type?: unknown; text?: unknown } | null) => {
      if (part?.type !== "text" || typeof part.text !== "string") throw badRequest(at, "holds a part that is not text; these models read text only");
      return part.text;
    })
    .join("");
}
