// The public types of the engine; those of requests and replies are in openai.ts.

import type { KingletError } from "./errors.js";
import type {
  ChatCompletion, ChatCompletionChunk, ChatRequest, Completion, CompletionChunk, CompletionRequest, EmbeddingRequest, EmbeddingResponse, RequestOptions,
} from "./openai.js";

export type * from "./openai.js";

/** One file, or the address of one. Bytes are read in place, never transferred or detached; leave them unchanged. */
export type ModelFile = string | URL | Blob | ArrayBuffer | ArrayBufferView;

/** A GGUF adapter of llama.cpp; or what PEFT writes, adapter_model.safetensors and adapter_config.json (or the object in it). */
export type AdapterSource = ModelFile | { weights: ModelFile; config: ModelFile | object };

/** How an adapter is downloaded. */
export interface AdapterOptions {
  /** For the download, as for the model's. */
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** What `createEngine` takes. All of it is optional: without a model it is the one that comes with the package. */
export interface EngineOptions {
  /**
   * Default: the small model that comes with the package. A string is a name of the catalogue ("smollm2-360m",
   * "qwen2.5-1.5b:q8_0"), a file on the Hugging Face Hub ("hf:owner/repository/file.gguf", "hf:owner/repository@revision/..."),
   * what was imported ("local:name"), or a URL. One part of a split file (`-00001-of-00003.gguf`) stands for all parts; an
   * array gives the parts themselves, in order. A stream can be read once only.
   */
  model?: ModelFile | readonly ModelFile[] | ReadableStream<Uint8Array>;
  /**
   * A smaller model with the same vocabulary, named as `model` is: it guesses what comes next, the model checks several tokens at
   * once, and the answer is the same, sooner where the guesses are good; where they are not, it rests. On the CPU only.
   */
  draft?: ModelFile | readonly ModelFile[];
  /**
   * "auto" (the default): the GPU where there is one and its results can be trusted, else the CPU; a "backend-changed"
   * event says why. "webgpu" fails where "auto" would choose the CPU at load. A GPU that is lost later is replaced by the
   * CPU in both, and the answer goes on.
   */
  backend?: "auto" | "webgpu" | "cpu";
  /**
   * On the CPU. Default: one for each core, at most 8. Needs a page that is cross-origin isolated (`crossOriginIsolated`) and a
   * browser with relaxed SIMD; elsewhere there is one thread, as `info.threads` says. Answers do not depend on it.
   */
  threads?: number;
  /** Default: min(the model's, 4096). */
  contextLength?: number;
  /**
   * How keys and values are kept: "f16" with 16 bits a number (halves on a GPU, integers with a scale a head and position on the
   * CPU), "int8" with 8 and a scale, a little over half the memory, for long contexts.
   */
  kvCache?: "f16" | "int8";
  /**
   * Whose chat template writes conversations: "file" (the default) the model file's own; "family" the one of the package for
   * the model's family, so that no template is run out of a file that was downloaded; or a family's name, or a template's
   * text, in Jinja. "family" fails with BAD_TEMPLATE where the package has none for the model.
   */
  chatTemplate?: "file" | "family" | TemplateFamily | (string & {});
  /**
   * For the download, e.g. `{ Authorization: "Bearer ..." }`. Sent to the given URL's origin only: a browser drops
   * Authorization when a redirect leaves the origin, and a redirect with any other header is refused.
   */
  headers?: Record<string, string>;
  /**
   * Where what is downloaded is kept, so that it is downloaded once: "auto" (the default) is the first that works of the
   * origin's private file system ("opfs"), the Cache API ("cache-api") and the page's memory ("memory"). "none" keeps
   * nothing. A complete file is used without asking its server, so also without a network.
   */
  cache?: CacheOption;
  /** Asks the server whether a stored file is still its own, and downloads it again where it is not. */
  revalidate?: boolean;
  /** Where "hf:" and the catalogue's files come from; default https://huggingface.co. */
  hub?: string | URL;
  /**
   * What every conversation begins with, such as the system prompt and the tools: read as soon as the model is loaded and nothing
   * else is asked for. On the CPU the result is kept beside a stored model, so that on the next visit the first question starts at once.
   */
  prefix?: Prefix;
  /** Hex digest of the file (an array for split files), checked while it streams in. */
  sha256?: string | readonly string[];
  /** Ends the loading; the engine does not outlive it. */
  signal?: AbortSignal;
  /** Called while the model is downloaded and loaded. */
  onProgress?: (progress: Progress) => void;
  /** Called for what an app may want to tell or log; nothing depends on it. */
  onEvent?: (event: EngineEvent) => void;
  /**
   * The worker's script, or a function that starts it, where `new URL("./worker.js", import.meta.url)` cannot be resolved. With
   * threads `pool.js` stands beside it.
   */
  worker?: string | URL | (() => Worker);
  /** The wasm binary: one URL for either level of SIMD, or one for each, the one with threads, and the grammars'. */
  wasmUrl?: string | URL | { simd?: string | URL; relaxed?: string | URL; threads?: string | URL; grammar?: string | URL };
  /** For the package's own tests only: may change or go at any time. */
  testing?: Testing;
}

/** Families of models whose chat templates come with the package; "chatml" is any model's that has ChatML's tokens, "plain" ("User: ...") that of a file without a template. */
export type TemplateFamily = "smollm2" | "qwen2.5" | "qwen3" | "phi-4-mini" | "phi-3" | "gemma-3" | "llama-3" | "chatml" | "plain";

/** What every conversation begins with; the fields are those of a chat's request. */
export type Prefix = Pick<ChatRequest, "messages" | "tools" | "chat_template_kwargs" | "reasoning_effort">;

/** Where downloads are kept; see `EngineOptions.cache`. */
export type CacheOption = "auto" | "opfs" | "cache-api" | "memory" | "none";

/** @internal */
export interface Testing {
  /** "auto" takes an adapter that is a program, which is slower than the CPU backend. */
  software?: boolean;
  /** Names the kernel that is made wrong. */
  sabotage?: string;
  /** Bytes that one binding may have, if fewer than the adapter's. */
  bindingLimit?: number;
  /** `false`: as on an adapter without it. */
  subgroups?: false;
  packedDot?: false;
  /** Measures variants of kernels, or does not, whatever the adapter. */
  tune?: boolean;
}

/** How far the loading of a model is. */
export interface Progress {
  phase: "download" | "verify" | "load" | "compile" | "ready";
  /** Bytes, for compile and ready steps. */
  loaded: number;
  /** Absent while a stream does not know its length. */
  total?: number;
  /** Of a download, over the last seconds. */
  bytesPerSecond?: number;
  secondsLeft?: number;
  /** It is the draft model's. */
  draft?: true;
}

/** What happened that is no failure, for `onEvent`. */
export type EngineEvent =
  | { type: "engine-crashed"; error: KingletError }
  | { type: "engine-restarted" }
  /** At load, or in the middle of an answer, which goes on. `reason.code`: NO_WEBGPU, GPU_UNTRUSTED, OUT_OF_MEMORY or DEVICE_LOST. */
  | { type: "backend-changed"; from: "webgpu"; to: "cpu"; reason: KingletError }
  | { type: "download-resumed"; url: string; offset: number; attempt: number; reason: string }
  /** The server has another file than the one whose download had begun on an earlier visit. */
  | { type: "download-restarted"; url: string; reason: string }
  /** The page is isolated, but the workers of the threads do not start: there is one thread. */
  | { type: "threads-unavailable"; reason: string }
  /** The engine's `prefix` is read, or was found beside the model: so many tokens of a prompt need no reading. */
  | { type: "prefix-ready"; tokens: number; stored: boolean }
  /** It lies beside the model for the next visit. */
  | { type: "prefix-kept"; bytes: number }
  /** It is not there on the next visit, or cannot be used at all. */
  | { type: "prefix-not-kept"; reason: string }
  /** The engine's `draft` is not used: it is not needed on a GPU, has no room beside the model, or could not be downloaded. */
  | { type: "draft-unavailable"; reason: string }
  | { type: "option-ignored"; option: string };

/** What was loaded, and what it runs on. */
export interface EngineInfo {
  architecture: string;
  name?: string;
  parameters: number;
  /** The format that holds most weights, "Q4_0" and the like. */
  quantization: string;
  contextLength: number;
  vocabulary: number;
  backend: "webgpu" | "cpu";
  /** The GPU's name. */
  adapter: string | null;
  /** What would take over if the GPU were lost; `null` on the CPU, and where nothing can. */
  fallback: "cpu" | null;
  /** Why there is no fallback. */
  fallbackReason?: string;
  /** That compute on the CPU; 1 beside a GPU. */
  threads: number;
  /** The name of the draft model; `null` where there is none, or where it is not used. */
  draft: string | null;
  /** Of the model's file, or of its parts one after the other; absent where it was not computed, as for a Blob without `sha256`. */
  sha256?: string;
  /** Which binary runs. */
  simd: "simd" | "relaxed";
}

/** Of the last run. */
export interface Stats {
  promptTokens: number;
  cachedTokens: number;
  /** Until the first token is chosen, over `promptTokens - cachedTokens`. */
  prefillMs: number;
  completionTokens: number;
  /** The `completionTokens - 1` steps after the first token. */
  decodeMs: number;
  /** Tokens that were guessed and checked several at a time, and those of them that were right. */
  draftedTokens: number;
  acceptedTokens: number;
  /** The same of those that came from the request's `prediction`. */
  predictedDraftedTokens: number;
  predictedAcceptedTokens: number;
  /** The same of those that came from the `draft` model, and the time that it took, which is among `decodeMs`. */
  modelDraftedTokens: number;
  modelAcceptedTokens: number;
  draftMs: number;
  dispatchesPerToken: number;
  backend: "webgpu" | "cpu";
}

/** Bytes. */
export interface MemoryUse {
  /** The whole wasm heap; on the CPU it holds the other three, which lie on the GPU else. */
  heap: number;
  weights: number;
  kvCache: number;
  scratch: number;
}

/** Leaving the loop early ends the generation, as `controller.abort()` does. Can be read once. */
export interface Stream<Chunk> extends AsyncIterable<Chunk> {
  readonly controller: AbortController;
}

/** Asks: with `stream: true` for pieces, else for the whole reply. Rejects with a `KingletError`. */
export interface Create<Request, Whole, Chunk> {
  /** Pieces as they are made. */
  (request: Request & { stream: true }, options?: RequestOptions): Promise<Stream<Chunk>>;
  /** The reply when it is whole. */
  (request: Request & { stream?: false | null }, options?: RequestOptions): Promise<Whole>;
  /** Either, where `stream` is known at run time only. */
  (request: Request, options?: RequestOptions): Promise<Whole | Stream<Chunk>>;
}

/** A model that is loaded. Its requests run one after the other. */
export interface Engine {
  readonly info: EngineInfo;
  readonly chat: { completions: { create: Create<ChatRequest, ChatCompletion, ChatCompletionChunk> } };
  readonly completions: { create: Create<CompletionRequest, Completion, CompletionChunk> };
  readonly embeddings: {
    /** Computes them with the model's last hidden states. */
    create(request: EmbeddingRequest, options?: RequestOptions): Promise<EmbeddingResponse>;
  };
  /** The text's token ids, without a chat template or a token at the beginning. */
  tokenize(text: string): Promise<number[]>;
  /** The text of token ids. */
  detokenize(ids: readonly number[]): Promise<string>;
  /**
   * Reads a LoRA adapter for this model; requests name it in `adapters`. It survives a crash and a change of backend.
   * Rejects with BAD_ADAPTER where it is broken, for another model, or more than a plain LoRA.
   */
  loadAdapter(source: AdapterSource, options?: AdapterOptions): Promise<number>;
  /** Rejects with BAD_ADAPTER while a request uses it. */
  unloadAdapter(id: number): Promise<void>;
  /** `undefined` before the first run. */
  stats(): Stats | undefined;
  /** What the engine takes now. */
  memory(): Promise<MemoryUse>;
  /** Rejects what is pending with DISPOSED and gives the worker's memory back. */
  dispose(): Promise<void>;
}
