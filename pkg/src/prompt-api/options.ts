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

const MODES: Record<string, number> = { "most-predictable": 0, predictable: 0.3, balanced: 0.7, creative: 1, "most-creative": 1.3 };

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
  const names: Partial<Record<typeof e.code, string>> = { CONTEXT_EXCEEDED: "QuotaExceededError", BAD_REQUEST: "NotSupportedError", ABORTED: "AbortError", DISPOSED: "InvalidStateError" };
  return Object.assign(new DOMException(e.message, names[e.code] ?? "OperationError"), { cause: e });
}

export function until<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    promise.then(resolve, reject);
  });
}
