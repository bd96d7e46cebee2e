/// <reference lib="webworker" />
// One thread of the bench page: reads and multiplies for a while, at the same time as its fellows.
import { makeKernels, type BenchResult, type BenchTask } from "./bench-kernels.js";

const worker = self as unknown as DedicatedWorkerGlobalScope;
const ROUNDS = 50_000;
const STRETCHES = 10;

worker.onmessage = async ({ data: { bytes, ms } }: MessageEvent<BenchTask>) => {
  const kernels = await makeKernels(bytes);
  // Until the loops are compiled for good, and the memory is there.
  rate(() => (kernels.read(), kernels.bytes), ms / 4);
  const bytesPerSecond = rate(() => (kernels.read(), kernels.bytes), ms);
  rate(() => (kernels.multiply(ROUNDS), ROUNDS), ms / 4);
  const macsPerSecond = rate(() => (kernels.multiply(ROUNDS), ROUNDS * kernels.macsPerRound), ms);
  worker.postMessage({ bytesPerSecond, macsPerSecond } satisfies BenchResult);
};

/** What `act` returns, a second, in the best of some stretches of `ms`: others on the machine take the core away now and then. */
function rate(act: () => number, ms: number): number {
  return Math.max(...Array.from({ length: STRETCHES }, () => {
    const start = performance.now();
    let done = 0;
    let now = start;
    do {
      done += act();
      now = performance.now();
    } while (now - start < ms / STRETCHES);
    return (done * 1000) / (now - start);
  }));
}
