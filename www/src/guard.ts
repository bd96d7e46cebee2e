// Before a model is loaded: does this device hold it? A page that takes too much memory is ended without a word.

import { inspect } from "kinglet";
import { largestThatRuns, needsOf, thisDevice, verdict, type Needs, type Verdict } from "./device.js";
import { catalogued, modelOf, type Source } from "./models.js";

/** Files below this are loaded without a look. */
const SMALL = 100e6;

/** `message` says what it would take and what this device has; `instead` would run. */
export class TooLarge extends Error {
  constructor(readonly verdict: Verdict, readonly instead: { id: string; name: string } | undefined) {
    super(verdict.why);
  }
}

/** Throws `TooLarge`. What cannot be looked at is for the engine to say. */
export async function guard(source: Source, hub: string | undefined, signal: AbortSignal): Promise<void> {
  if (source.kind === "embedded" || source.force) return;
  if (source.kind === "file" && source.files.reduce((sum, { size }) => sum + size, 0) < SMALL) return;
  const [device, needs] = await Promise.all([thisDevice(), needsOfSource(source, hub, signal).catch(() => undefined)]);
  signal.throwIfAborted();
  if (!needs) return;
  const judged = verdict(needs, device);
  if (judged.answer === "yes" || judged.answer === "tight") return;
  const smaller = largestThatRuns(device);
  throw new TooLarge(judged, smaller && { id: `${smaller.model.id}:${smaller.file.quantization.toLowerCase()}`, name: `${smaller.model.name} (${smaller.file.quantization})` });
}

async function needsOfSource(source: Source, hub: string | undefined, signal: AbortSignal): Promise<Needs | undefined> {
  const known = source.kind === "url" ? catalogued(source.url) : undefined;
  if (known) return needsOf(known.file);
  const { memory, gpuMemory, gpuProblem } = await inspect(modelOf(source), { signal, ...(hub ? { hub } : {}) });
  return memory ? { cpu: memory.total, gpu: gpuMemory && !gpuProblem ? gpuMemory.total : null, gpuHeap: gpuMemory?.heap ?? 0 } : undefined;
}
