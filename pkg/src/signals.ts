// How sure the model was of a whole answer, from the signals of its tokens.

import type { TokenSignals } from "./protocol.js";
import type { Signals } from "./types.js";

const WINDOW = 32;
const LN_HALF = -Math.LN2;

export class SignalSum {
  #n = 0;
  #logprob = 0;
  #minLogprob = Infinity;
  #low = 0;
  #entropy = 0;
  #maxEntropy = -Infinity;
  #margin = 0;
  /** The last `WINDOW` log-probabilities, a ring. */
  #recent: number[] = [];
  #lowestWindow = Infinity;

  add({ logprob, entropy, margin }: TokenSignals): void {
    this.#recent[this.#n++ % WINDOW] = logprob;
    this.#logprob += logprob;
    this.#minLogprob = Math.min(this.#minLogprob, logprob);
    if (logprob < LN_HALF) this.#low++;
    this.#entropy += entropy;
    this.#maxEntropy = Math.max(this.#maxEntropy, entropy);
    this.#margin += margin;
    // Summed afresh: a running difference would drift.
    if (this.#n >= WINDOW) this.#lowestWindow = Math.min(this.#lowestWindow, this.#recent.reduce((a, b) => a + b) / WINDOW);
  }

  get(): Signals {
    const n = this.#n;
    if (n === 0) return {};
    return {
      meanLogprob: this.#logprob / n,
      minLogprob: this.#minLogprob,
      lowShare: this.#low / n,
      meanEntropy: this.#entropy / n,
      maxEntropy: this.#maxEntropy,
      margin: this.#margin / n,
      lowestWindow: n < WINDOW ? this.#logprob / n : this.#lowestWindow,
      logLength: Math.log(n),
    };
  }
}
