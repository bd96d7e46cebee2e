// What a session is asked for, and the platform's errors.

import { KingletError } from "../errors.js";

interface Tool {
  name: string;
  description: string;
  inputSchema: object;
  execute(...args: unknown[]): unknown;
}

export interface CoreOptions {
  samplingMode?: string;
  temperature?: number;
  topK?: number;
  expectedInputs?: { type: string; languages?: string[] }[];
  expectedOutputs?: { type: string; languages?: string[] }[];
  tools?: Tool[];
}

const MODES: Record<string, number> = {
  "most-predictable": 0, predictable: 0.3, "slightly-predictable": 0.5, balanced: 0.7, "slightly-creative": 0.85, creative: 1, "most-creative": 1.3,
};

export function check({ samplingMode, temperature, topK }: CoreOptions): void {
  if (samplingMode === undefined) return;
  if (temperature !== undefined || topK !== undefined) throw new TypeError("samplingMode goes without temperature and topK");
  if (!(samplingMode in MODES)) throw new TypeError(`samplingMode must be one of ${Object.keys(MODES).join(", ")}`);
}

export function sampling({ samplingMode, temperature, topK }: CoreOptions): object {
  const warmth = samplingMode === undefined ? temperature : MODES[samplingMode];
  return { ...(warmth !== undefined && { temperature: warmth }), ...(topK !== undefined && { top_k: topK }) };
}

export function textOnly({ expectedInputs = [], expectedOutputs = [] }: CoreOptions): boolean {
  return [...expectedInputs, ...expectedOutputs].every(({ type }) => ["text", "tool-call", "tool-response"].includes(type));
}

/** What the platform throws for the same. */
export function domError(e: unknown): unknown {
  if (!(e instanceof KingletError)) return e;
  const names: Partial<Record<typeof e.code, string>> = { BAD_REQUEST: "NotSupportedError", ABORTED: "AbortError", DISPOSED: "InvalidStateError" };
  if (e.code === "CONTEXT_EXCEEDED") return quotaExceeded(e.message, e.details, e);
  return Object.assign(new DOMException(e.message, names[e.code] ?? "OperationError"), { cause: e });
}

/** An interface of its own in newer browsers, a DOMException's name in others; `requested` and `quota` in both. */
export function quotaExceeded(message: string, { promptTokens, contextLength }: { promptTokens?: unknown; contextLength?: unknown }, cause?: unknown): DOMException {
  const figures = { ...(typeof promptTokens === "number" && { requested: promptTokens }), ...(typeof contextLength === "number" && { quota: contextLength }) };
  const { QuotaExceededError: Own } = globalThis as { QuotaExceededError?: new (message: string, figures: object) => DOMException };
  const error = Own ? new Own(message, figures) : Object.assign(new DOMException(message, "QuotaExceededError"), figures);
  return Object.assign(error, { cause });
}

/** What a prompt says of the form that its answer is held to. */
export function constraintText(constraint: object | RegExp): string {
  return constraint instanceof RegExp ? `Answer with a text of this form: ${constraint}` : `Answer with JSON that keeps to this schema: ${JSON.stringify(constraint)}`;
}

/** The whole answer matches, with anchors or without. Of the flags `i` and `s` have a meaning here. */
export function responseFormat(constraint: object | RegExp): object {
  if (!(constraint instanceof RegExp)) return { type: "json_schema", json_schema: { name: "answer", schema: constraint } };
  const source = constraint.source.replace(/^\^/, "").replace(/(?<!\\)((?:\\\\)*)\$$/, "$1");
  const flags = constraint.flags.replace(/[^is]/g, "");
  return { type: "regex", regex: flags ? `(?${flags}:${source})` : source };
}

export function until<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}
