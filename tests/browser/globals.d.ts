// What lib/package.mjs puts into a test's page.
import type * as Kinglet from "../../pkg/src/index.ts";
import type * as Routing from "../../pkg/src/router/types.ts";

declare global {
  /** Of extensions: only their own pages and service workers have it. */
  const chrome: any;
  const kinglet: typeof Kinglet;
  const createEngine: typeof Kinglet.createEngine;
  const url: string;
  function bytes(): Promise<ArrayBuffer>;
  function spy(): { worker: Worker; started: number; start(): Worker; trap(helper?: boolean): void };
  function patched(patch: string): () => Worker;
  function limited(accepts: string): () => Worker;
  function failure(promise: Promise<unknown>): Promise<{
    code: string; name?: string; isKinglet?: boolean; message: string; details: Record<string, any>; text?: string; ids?: number[];
  }>;
  function greedy(engine: Kinglet.Engine, options?: object): Promise<Kinglet.Completion>;
  function emptied(): Promise<void>;
  function collect<T>(stream: AsyncIterable<T>): Promise<T[]>;
  /** Of lib/router.mjs. */
  const engine: Kinglet.Engine;
  var calibration: Record<string, any>;
  function createRouter(options: Routing.RouterOptions): Promise<Routing.Router>;
  function router(url: string, options?: Partial<Routing.RouterOptions>): Promise<Routing.Router>;
  function question(content: string, more?: object): Routing.AskRequest & { stream?: false };
  function unsure(more?: object): Routing.AskRequest & { stream?: false };
  function follow(ask: Routing.Ask): Promise<{
    events: { type: string; source?: string; [field: string]: any }[]; shown: string; answer?: Routing.Answer;
    error?: { code: string; message: string; details: Record<string, any>; text?: string };
  }>;
  /** Of adapters.spec.mjs. */
  function ids(engine: Kinglet.Engine, adapters?: { id: number; scale?: number }[]): Promise<number[]>;
  /** Of drafts.spec.mjs. */
  function ask(engine: Kinglet.Engine, content: string, more?: object): Promise<Kinglet.ChatCompletion & AsyncIterable<Kinglet.ChatCompletionChunk>>;
  function told(reply: Kinglet.ChatCompletion | Kinglet.Completion): {
    ids: number[]; reason: string; cached: number; accepted_prediction_tokens: number; rejected_prediction_tokens: number;
  };
  function begin(options: object): Promise<{ engine: Kinglet.Engine; ready: Record<string, any>; kept(): Promise<Kinglet.StoredModel> }>;
  /** Of lib/gpu.mjs. */
  function losing(at: Point, patch?: string): { start(): Worker; seen(): Promise<{ operations: number; lost: boolean }> };
  type Point = { loading: number } | { answering: number } | undefined;
}
