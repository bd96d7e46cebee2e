// What a model is, needs, and whether it fits, known from its header: before it is downloaded.

import { askWorker } from "./ask-worker.js";
import { badRequest } from "./errors.js";
import { wasmUrls } from "./host.js";
import { resolveModel } from "./model.js";
import type { EngineOptions } from "./types.js";

/** How the header is read, and for which context the needs are computed. */
export interface InspectOptions extends Pick<EngineOptions, "contextLength" | "kvCache" | "cache" | "hub" | "headers" | "signal" | "worker" | "wasmUrl"> {}

/** What a model's header says. */
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

/** Whether this page's memory and GPU can hold the model. */
export interface Fits {
  /** What `memory.total` may be. */
  limit: number;
  cpu: boolean;
  /** Its buffers are not too large for the adapter; how much memory a GPU has, nobody tells a page. */
  gpu: boolean;
  /** What the CPU could hold instead: a shorter context, or the catalogue's nearest model. */
  nearest: { contextLength: number } | RecommendedFile | null;
}

/** A file of the catalogue. */
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
export async function inspect(model: Exclude<EngineOptions["model"], ReadableStream>, options: InspectOptions = {}): Promise<ModelReport> {
  const { contextLength, kvCache, cache, hub, headers } = options;
  if ((model as unknown) instanceof ReadableStream) throw badRequest("model", "is a stream, which can be read only once; inspect its URL or Blob instead");
  const question = { contextLength, kvInt8: kvCache === "int8" };
  const { parts, store, transfer, close } = resolveModel({ model, cache, hub, headers }).open();
  try {
    const answer = await askWorker({ type: "inspect", parts, store, wasm: wasmUrls(options.wasmUrl), question }, transfer, "inspects", options);
    return (answer as Extract<typeof answer, { type: "inspected" }>).report;
  } finally {
    close();
  }
}
