// An engine's embeddings as an embedding model of the AI SDK.

import type { EmbeddingModelV3, EmbeddingModelV4, EmbeddingModelV4CallOptions } from "@ai-sdk/provider";
import { MOST_TEXTS } from "../embeddings.js";
import { asAborter, checkEmbeddings } from "../face.js";
import type { Engine } from "../types.js";

/** Version 4 of the interface, for ai 7. */
export type KingletEmbeddingModel = EmbeddingModelV4 & {
  /** For ai 6. */
  asV3(): EmbeddingModelV3;
};

/** Vectors of length one; `dimensions` cannot be chosen. */
export function embeddingModel(engine: Pick<Engine, "embeddings"> & Partial<Pick<Engine, "info">>, { modelId }: { modelId?: string } = {}): KingletEmbeddingModel {
  checkEmbeddings(engine);
  const v4: KingletEmbeddingModel = {
    specificationVersion: "v4",
    provider: "kinglet",
    modelId: modelId ?? engine.info?.name ?? engine.info?.architecture ?? "kinglet",
    maxEmbeddingsPerCall: MOST_TEXTS,
    supportsParallelCalls: false,
    async doEmbed({ values, dimensions, abortSignal: signal }: EmbeddingModelV4CallOptions) {
      try {
        const { data, usage } = await engine.embeddings.create({ input: values, ...(dimensions !== undefined && { dimensions }) }, { signal });
        return { embeddings: data.map(({ embedding }) => embedding as number[]), usage: { tokens: usage.prompt_tokens }, warnings: [] };
      } catch (e) {
        throw asAborter(e, signal);
      }
    },
    asV3: () => ({ ...v4, specificationVersion: "v3" }) as unknown as EmbeddingModelV3,
  };
  return v4;
}
