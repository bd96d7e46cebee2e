// The public types of the router.

import type { ChatCompletion, ChatCompletionChunk, ChatRequest, RequestOptions, ToolCall, ToolCallDelta } from "../openai.js";
import type { Create } from "../types.js";

/**
 * "only-local": nothing ever leaves. "prefer-local": the cloud where the local model fails or gives no answer (empty, a loop,
 * cut, a refusal, no JSON). "auto" (the default): also where confidence in the answer is below what the calibration
 * certifies. "prefer-cloud": the local model where the cloud fails. "only-cloud": the cloud alone.
 */
export type Mode = "only-local" | "prefer-local" | "auto" | "prefer-cloud" | "only-cloud";

/** An engine of this package, or whatever has its chat completions. */
export interface LocalModel {
  chat: {
    completions: {
      /** As OpenAI's. */
      create(request: never, options?: RequestOptions): Promise<unknown>;
    };
  };
}

/** A server with OpenAI's chat completions. */
export interface Cloud {
  /** Of the chat completions, whole or relative to the page: `https://host/v1/chat/completions`, `/api/chat`. */
  url: string | URL;
  model: string;
  /**
   * A short-lived token, or what gets one; `refresh` is true where the last one was refused. A provider's own key is
   * rejected: anyone could read it in the page. Leave it out for a proxy that adds the key, or a server without keys.
   */
  auth?: string | ((why: { refresh: boolean }) => string | Promise<string>);
  /** The header of the token. Default: `Authorization: Bearer ...`. */
  authHeader?: string;
  /** Dollars for a million tokens. A budget needs it, and so does what was saved. */
  price?: { input: number; output: number };
  /** The most tokens of an answer where the request names no limit. Default 1024. */
  maxTokens?: number;
  /** What that limit is called in the body. Default "max_tokens". */
  limitName?: string;
  /** The server rejects `stream_options`: it says no usage, and each answer counts with the most that it may cost. */
  noUsage?: boolean;
  /** Put into each body as it is. */
  extra?: Record<string, unknown>;
}

/** Who is sent something: a server, and a model of it. */
export interface Destination {
  /** With its port, where the address has one. */
  host: string;
  model: string;
}

/** What the user would agree to. */
export interface Preview {
  to: Destination;
  /** JSON: exactly what would be sent. */
  body: string;
  /** How many values of each kind were replaced by placeholders. */
  redactions: Record<string, number>;
}

/** The user's word on a preview. */
export type Decision = "once" | "always" | "deny";

/** What `createRouter` takes. */
export interface RouterOptions {
  local?: LocalModel;
  /** Without it nothing is ever sent. */
  cloud?: Cloud;
  mode?: Mode;
  policy?: {
    /** A check while the local model writes that is below this probability asks the cloud at once. Default: none is. */
    early?: number;
    /** A request whose `pre` is below this skips the local model. Default: none does. */
    pre?: number;
    /** Show nothing before it is decided whose answer it is; then nothing is ever retracted. */
    hold?: boolean;
  };
  /** What `kinglet route calibrate` wrote: its text, or the parsed object. Without it "auto" escalates structural failures only. */
  calibration?: string | object;
  privacy?: {
    /** What becomes of personal data. Default "redact": placeholders, restored in the answer. */
    pii?: "redact" | "block" | "allow";
    /** How much of the conversation is sent. Default "last-turn". */
    context?: "last-turn" | "all";
    /** Words of the user's own that count as personal data: names, addresses, projects. Patterns do not find them. */
    terms?: string[];
  };
  /** Asked before anything is sent to a host and model that the user has not always allowed. */
  consent?: (preview: Preview) => Decision | Promise<Decision>;
  /** A cap that holds across tabs. `periodMs`: it is for each such period since 1970 (a day: 86,400,000). Default: for good. */
  budget?: { usd?: number; periodMs?: number };
  /** Milliseconds and counts; see the defaults in the documentation of faults. */
  net?: Partial<Record<
    | "firstMs" | "idleMs" | "totalMs" | "graceMs" | "retries" | "restarts" | "backoffMs" | "longestWaitMs" | "lockMs" | "refreshMs" | "consentMs",
    number
  >>;
  /** Routers of one name share spending, breaker, consents and outbox, across tabs too. Default: the cloud's host. */
  name?: string;
  /** Where these are kept. Default: IndexedDB. `null`: nowhere, each tab for itself. */
  storage?: RouterStorage | null;
  /** Keep what the cloud could not be asked (offline, or it failed), and ask again when it can. Default: no. */
  outbox?: OutboxOptions;
  /** Called for what a developer should know. */
  onEvent?: (event: RouterNotice) => void;
  /** Each question's record, when it is over. */
  onRecord?: (record: DecisionRecord) => void;
  /** Of the router's binary, where `new URL("../wasm/router/kinglet_bg.wasm", import.meta.url)` cannot be resolved. */
  wasmUrl?: string | URL;
}

/** A place for strings. Give the same one to all tabs. */
export interface RouterStorage {
  /** `null` or `undefined` for a key that was never set. */
  get(key: string): string | null | undefined | Promise<string | null | undefined>;
  /** Resolves when other tabs can see it. */
  set(key: string, value: string): void | Promise<void>;
}

/** What waits for the cloud, and who is told of its answers. */
export interface OutboxOptions {
  /** Keep the questions in `storage`, on this device, so that they survive the page. Default false: in memory. */
  persist?: boolean;
  /** The cloud's answer to an earlier question, in the tab that asked again. */
  onAnswer?: (entry: OutboxEntry, answer: Answer) => void;
}

/** A question that waits for the cloud. */
export interface OutboxEntry {
  id: string;
  /** Since 1970. */
  at: number;
  request: AskRequest;
  /** Why the cloud was wanted, and why it was not asked or did not answer. */
  wanted: string;
  blockedBy: string;
}

/** What a developer should know. */
export type RouterNotice =
  /** The calibration does not speak of what runs: confidence is not calibrated. `differs`: model, template, sampler, signals, precision. */
  | { type: "not-calibrated"; differs: string[] }
  /** The answers differ from those of the calibration: the strictest certified threshold is in force. */
  | { type: "drift"; on: boolean }
  /** Spending and consents are this tab's only: what others do is not seen. */
  | { type: "storage-failed"; error: unknown }
  /** `auth` failed, or gave what must not be sent. */
  | { type: "auth-failed"; error: unknown }
  /** The local model failed; the cloud may have answered. */
  | { type: "local-failed"; error: unknown }
  /** A function of yours threw; `consent` counts as a no. */
  | { type: "callback-failed"; callback: string; error: unknown };

/** A question: OpenAI's request, and the router's own settings for this one. */
export interface AskRequest extends ChatRequest {
  /** Default: the router's. */
  mode?: Mode;
  hold?: boolean;
  /** It must not leave the device, whatever was agreed to. So for a message with `private: true` or `labels: ["private"]`. */
  private?: boolean;
  /** A score of the question from 0 to 1, where you have validated one. */
  pre?: number;
}

/** Who answered. */
export type Source = "local" | "cloud";

/** The last of a question is `final`; or the iteration throws. */
export type AskEvent =
  /** To be appended to what is shown. `draft`: it may still be retracted. */
  | { type: "token"; source: Source; text: string; draft: boolean }
  /** Confidence after `k` tokens. */
  | { type: "check"; k: number; pOk: number; tau: number }
  /** Take back the last `retract` UTF-16 units, which is all that is shown: another source begins. */
  | { type: "switch"; reason: string; retract: number }
  /** The cloud is wanted. */
  | {
      type: "consent";
      preview: Preview;
      /** For whoever gave no `consent` to the router; no word is a no. */
      decide: (decision: Decision) => void;
    }
  | { type: "retry"; attempt: number; delayMs: number; cause: string; advice?: string }
  | { type: "final"; answer: Answer };

/** Counts of tokens. */
export interface Tokens {
  input: number;
  output: number;
}

/** An answer, where it came from, and how certain it is. */
export interface Answer {
  /** What is shown. */
  text: string;
  source: Source;
  finish: "stop" | "length" | "tool_calls" | "content_filter";
  toolCalls: ToolCall[];
  /** What a thinking model thought before. */
  reasoning: string;
  /** Of the local answer. `pOk`: the probability that it is acceptable; null without a calibration. */
  confidence: { pOk: number | null; tau: number | null; calibrated: boolean };
  /** The cloud was wanted, and did not answer. */
  degraded: { wanted: string; blockedBy: string; advice: string } | null;
  usage: Tokens;
  record: DecisionRecord;
  /** The id in the outbox, where the question waits for the cloud. */
  outbox?: string;
}

/** What it took, and what it saved. */
export interface Bill {
  localTokens: Tokens;
  cloudTokens: Tokens;
  costUsd: number;
  /** Part of the cost is the most that it can have been: the server did not say. */
  costIsBound: boolean;
  /** What the cloud would have taken for the answer that was given, at the local model's count of tokens. */
  counterfactualUsd: number;
  /** `counterfactualUsd - costUsd`: below 0 where attempts failed. */
  savedUsd: number;
}

/** What was decided and why, without a word of the conversation. */
export interface DecisionRecord extends Bill {
  mode: Mode;
  source: Source | null;
  wantedCloud: string | null;
  blockedBy: string | null;
  checks: { k: number; pOk: number; tau: number }[];
  /** The signals of the local answer: with a label, an example for `kinglet route calibrate`. */
  features: Record<string, number>;
  pOk: number | null;
  tau: number | null;
  calibrated: boolean;
  drift: boolean;
  /** What left the device: bytes of bodies, all attempts together. */
  egress: { to: Destination | null; bytes: number; redactions: Record<string, number> };
  attempts: { outcome: string; status: number | null; ms: number }[];
  ms: number;
}

/** A question under way. Leaving the loop early ends it, as `abort()` does. */
export interface Ask extends AsyncIterable<AskEvent> {
  /** Rejects with NO_ANSWER or ABORTED. */
  readonly answer: Promise<Answer>;
  /** Ends it: the answer rejects with ABORTED. */
  abort(): void;
}

/** What would be done; nothing is sent for it. */
export interface Explanation {
  mode: Mode;
  local: boolean;
  /** Null: nothing stands against it. */
  cloudBlockedBy: string | null;
  needsConsent: boolean;
  preview: Preview | null;
  /** With the longest answer. */
  mostUsd: number | null;
  calibration: CalibrationState | null;
}

/** Whether the calibration is for what runs, and what it certifies. */
export interface CalibrationState {
  /** What the last local answer came of that the calibration is not for; null before the first. */
  differs: string[] | null;
  drift: object | null;
  tau: number;
  /** What the examples can and cannot certify. */
  feasibility: Record<string, unknown>;
}

/** Of this router since it was made; `spentUsd` and `unsureUsd` of all tabs in the budget's period. */
export interface RouterStats extends Bill {
  asked: number;
  local: number;
  cloud: number;
  /** Of `local`: the cloud was wanted, and did not answer. */
  degraded: number;
  failed: number;
  aborted: number;
  /** `local / (local + cloud)`; null before the first answer. */
  localShare: number | null;
  spentUsd: number;
  /** Of `spentUsd`, what is an upper bound. */
  unsureUsd: number;
}

/** Beyond OpenAI, in replies of the router. */
export interface Routed {
  source: Source;
  confidence: Answer["confidence"];
  degraded: Answer["degraded"];
  record: DecisionRecord;
}

/** A router's whole answer, in OpenAI's shape. */
export type RoutedCompletion = Omit<ChatCompletion, "choices" | "signals" | "made_for" | "usage"> & {
  choices: [{
    index: 0;
    message: { role: "assistant"; content: string; reasoning_content?: string; refusal: null; tool_calls?: ToolCall[] };
    logprobs: null;
    finish_reason: Answer["finish"];
  }];
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
  router: Routed;
};

/** A piece of a router's answer, in OpenAI's shape. */
export type RoutedChunk = Pick<ChatCompletionChunk, "id" | "created" | "model" | "object"> & {
  choices: {
    index: 0;
    delta: { role?: "assistant"; content?: string; reasoning_content?: string; tool_calls?: ToolCallDelta[] };
    logprobs: null;
    finish_reason: Answer["finish"] | null;
  }[];
  usage?: RoutedCompletion["usage"] | null;
  /** In the chunk with the finish_reason. */
  router?: Routed;
};

/** The questions that wait for the cloud. */
export interface Outbox {
  /** The oldest first. */
  list(): Promise<OutboxEntry[]>;
  /** Forgets a question. */
  remove(id: string): Promise<void>;
  /** Asks again what waits; each answer goes to `onAnswer` and is removed. Called when the network comes back. */
  flush(): Promise<void>;
}

/** Chooses for each question whether the local model or the cloud answers. */
export interface Router {
  /** A text is one message of the user. */
  ask(request: AskRequest | string, options?: RequestOptions): Ask;
  /** A dry run. */
  explain(request: AskRequest | string): Explanation;
  /** What was asked and spent so far. */
  stats(): RouterStats;
  /**
   * As an engine has it. A stream cannot take anything back, so it begins when it is decided whose answer it is. Rejects with
   * NO_ANSWER. Without a `consent` nobody can be asked: only what was always allowed is sent.
   */
  readonly chat: { completions: { create: Create<AskRequest, RoutedCompletion, RoutedChunk> } };
  readonly outbox: Outbox;
  /** What the user has always allowed. */
  grants(): Destination[];
  /** Takes that back, in all tabs. */
  revoke(destination: Destination): Promise<void>;
  /** Somebody signed in: an endpoint that refused the token may be asked again. */
  authChanged(): void;
  /** Another local model, or none. */
  setLocal(local: LocalModel | undefined): void;
  /** Ends what is under way. The engine is the caller's. */
  dispose(): void;
}
