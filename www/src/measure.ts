// What a device can do, and how close the engine comes to it. Knows no page; nothing is sent anywhere.

import { createEngine, inspect } from "kinglet";
import type { BenchResult, BenchTask } from "./bench-kernels.js";

export interface Limits extends BenchResult {
  threads: number;
}

export interface Run {
  backend: "cpu" | "webgpu";
  adapter: string | null;
  threads: number;
  /** Tokens a second, the median of the rounds. */
  prefill: number;
  decode: number;
  firstTokenMs: number;
  /** Of the whole load, from the cache or the network. */
  loadMs: number;
  weightBytes: number;
  parameters: number;
  /** Multiply-adds for a token of a prompt: of the layers' matrices, not of the vocabulary's, which only a last token meets. */
  macsPerToken: number;
  model: string;
  quantization: string;
}

export interface Wanted {
  backend: "cpu" | "webgpu";
  threads?: number;
}

const WORKER_MS = 500;
const PROMPT = "Once upon a time there was a little bird who lived in a tall tree. ".repeat(8);
const ANSWER = 64;
const ROUNDS = 3;

/** Of so many threads at once, each over memory of its own: together `bytes`. */
export async function measureLimits(threads: number, bytes: number): Promise<Limits> {
  const results = await Promise.all(Array.from({ length: threads }, () => oneThread({ bytes: bytes / threads, ms: WORKER_MS })));
  const sum = (of: (result: BenchResult) => number) => results.reduce((total, result) => total + of(result), 0);
  return { threads, bytesPerSecond: sum((result) => result.bytesPerSecond), macsPerSecond: sum((result) => result.macsPerSecond) };
}

function oneThread(task: BenchTask): Promise<BenchResult> {
  const worker = new Worker("bench-worker.js");
  return new Promise<BenchResult>((resolve, reject) => {
    worker.onmessage = ({ data }: MessageEvent<BenchResult>) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message || "a worker could not be started"));
    worker.postMessage(task);
  }).finally(() => worker.terminate());
}

/** Loads the model and asks it a few times; the first round is not counted. */
export async function measureEngine(model: string | undefined, { backend, threads }: Wanted, onStep: (text: string) => void): Promise<Run> {
  const start = performance.now();
  const engine = await createEngine({ model, backend, ...(threads ? { threads } : {}) });
  const loadMs = performance.now() - start;
  try {
    const { info } = engine;
    const { weights } = await engine.memory();
    const { tensors } = await inspect(model);
    const macsPerToken = tensors.filter(({ name, shape }) => name.startsWith("blk.") && shape.length === 2).reduce((sum, { shape }) => sum + shape[0]! * shape[1]!, 0);
    const rounds: { prefill: number; decode: number; firstTokenMs: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      onStep(round === 0 ? "warming up" : `round ${round} of ${ROUNDS}`);
      await engine.completions.create({ prompt: PROMPT, max_tokens: ANSWER, temperature: 0, ignore_eos: true, cache_prompt: false });
      const stats = engine.stats()!;
      rounds.push({
        prefill: (1000 * stats.promptTokens) / stats.prefillMs,
        decode: (1000 * (stats.completionTokens - 1)) / stats.decodeMs,
        firstTokenMs: stats.prefillMs,
      });
    }
    const median = (of: (round: (typeof rounds)[number]) => number) => rounds.slice(1).map(of).sort((a, b) => a - b)[Math.floor(ROUNDS / 2)]!;
    return {
      backend: info.backend, adapter: info.adapter, threads: info.threads, loadMs, weightBytes: weights,
      prefill: median((round) => round.prefill), decode: median((round) => round.decode), firstTokenMs: median((round) => round.firstTokenMs),
      parameters: info.parameters, macsPerToken, model: info.name ?? "unnamed", quantization: info.quantization,
    };
  } finally {
    await engine.dispose();
  }
}
