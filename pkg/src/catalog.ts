// Models of the supported families, each with the files that people take, their needs computed from their shapes:
// `import { catalog } from "kinglet/catalog"`.

import json from "../catalog.json" with { type: "json" };
import type { TemplateFamily } from "./types.js";

/** A model that is known to run. */
export interface CatalogModel {
  id: string;
  name: string;
  /** "qwen2.5-coder" and the like: what stands in for one another. */
  family: string;
  /** GGUF's `general.architecture`. */
  architecture: string;
  parameters: number;
  contextLength: number;
  licence: { id: string; url: string };
  /** Its family's chat template: see `EngineOptions.chatTemplate`. The file itself carries it too. */
  template: TemplateFamily;
  /** The smallest first. */
  files: CatalogFile[];
}

/** A quantization of it. */
export interface CatalogFile {
  quantization: string;
  /** On the Hugging Face Hub. */
  repository: string;
  file: string;
  bytes: number;
  /** Bytes at `contextLength` positions, computed from the model's shape. */
  memory: {
    contextLength: number;
    /** Weights, KV cache and scratch in the page's wasm heap. */
    cpu: number;
    cpuPerPosition: number;
    /** The same on a GPU ... */
    gpu: number;
    gpuPerPosition: number;
    /** ... beside which the page's wasm heap takes this. */
    gpuHeap: number;
  };
}

/** The models, by family and size. */
export const catalog: readonly CatalogModel[] = json.models as CatalogModel[];

/** What `memory.cpu` may be: a page holds no more on the CPU. */
export const cpuLimit: number = json.cpuLimit;

/** Where a file of the catalogue is downloaded from. */
export const addressOf = ({ repository, file }: { repository: string; file: string }): string =>
  `https://huggingface.co/${repository}/resolve/main/${file}`;
