// What a model is, needs, and whether it fits, known from its header: before it is downloaded.

import { aborted, badRequest, KingletError } from "./errors.js";
import { NO_SCRIPT, startWorker, wasmUrls } from "./host.js";
import { resolveModel } from "./model.js";
import type { FromWorker, Inspected, ToWorker } from "./protocol.js";
import type { EngineOptions } from "./types.js";

export interface InspectOptions extends Pick<EngineOptions, "contextLength" | "kvCache" | "headers" | "signal" | "worker" | "wasmUrl"> {}

export interface ModelReport {
  architecture: string | null;
  name: string | null;
  fileBytes: number;
  files: number;
  parameters: number;
  /** The model's own; an engine takes at most 4096 of it unless told otherwise. */
  contextLength: number | null;
  /** By bytes, the largest first. */
  quantization: { type: string; tensors: number; bytes: number; share: number }[];
  /** The file has a chat template of its own. */
  chatTemplate: boolean;
  /** On the CPU; `null` where the model is not supported. */
  memory: MemoryNeeded | null;
  /** On the GPU. `heap` is what the page would take beside it. */
  gpuMemory: MemoryNeeded | null;
  /** Why a GPU would not take it. */
  gpuProblem: string | null;
  fits: Fits | null;
  supported: boolean;
  /** Why not. */
  problems: string[];
  /** Long strings and arrays shortened. */
  metadata: Record<string, unknown>;
  /** Shapes are [rows, columns]. */
  tensors: { name: string; type: string; shape: number[]; bytes: number }[];
}

/** Bytes. */
export interface MemoryNeeded {
  weights: number;
  kvCache: number;
  kvCachePerPosition: number;
  scratch: number;
  contextLength: number;
  /** Weights, cache and scratch. */
  total: number;
  /** The whole wasm heap. */
  heap: number;
}

export interface Fits {
  /** What `memory.total` may be. */
  limit: number;
  cpu: boolean;
  /** Its buffers are not too large for the adapter; how much memory a GPU has, nobody tells a page. */
  gpu: boolean;
  /** What the CPU could hold instead: a shorter context, or the catalogue's nearest model. */
  nearest: { contextLength: number } | RecommendedFile | null;
}

export interface RecommendedFile {
  id: string;
  name: string;
  quantization: string;
  /** On the Hugging Face Hub. */
  repository: string;
  file: string;
  bytes: number;
}

/** Reads the header only: of a URL some megabytes at most, by ranges, whatever the size of the file. */
export function inspect(model: Exclude<EngineOptions["model"], ReadableStream>, options: InspectOptions = {}): Promise<ModelReport> {
  const { contextLength, kvCache, headers, signal } = options;
  if ((model as unknown) instanceof ReadableStream) {
    return Promise.reject(badRequest("model", "is a stream, which can be read only once; inspect its URL or Blob instead"));
  }
  return new Promise((resolve, reject) => {
    const { parts, transfer, close } = resolveModel({ model, headers }).open();
    const worker = startWorker(options.worker);
    const end = () => {
      worker.terminate();
      close();
      signal?.removeEventListener("abort", abort);
    };
    const abort = () => fail(aborted(signal));
    const fail = (error: KingletError) => {
      end();
      reject(error);
    };
    signal?.addEventListener("abort", abort, { once: true });
    worker.onmessage = ({ data }: MessageEvent<FromWorker | Inspected>) => {
      if (data.type === "inspected") {
        end();
        resolve(data.report);
      } else if (data.type === "failed") fail(KingletError.from(data.error));
      else if (data.type === "crashed") fail(new KingletError("ENGINE_CRASHED", `inspecting the model crashed: ${data.message}`));
    };
    worker.onmessageerror = () => fail(new KingletError("ENGINE_CRASHED", "the worker that inspects: a message could not be read"));
    worker.onerror = (e) => {
      e.preventDefault();
      fail(new KingletError("ENGINE_CRASHED", `the worker that inspects: ${e.message || NO_SCRIPT}`));
    };
    const question = { contextLength, kvInt8: kvCache === "int8" };
    worker.postMessage({ type: "inspect", parts, wasm: wasmUrls(options.wasmUrl), question } satisfies ToWorker, transfer);
    if (signal?.aborted) abort();
  });
}
