// What the records of this router come to.

import type { Answer, DecisionRecord, RouterStats, Tokens } from "./types.js";

type Sums = Omit<RouterStats, "localShare" | "spentUsd" | "unsureUsd">;

export class Totals {
  #sums: Sums = {
    asked: 0, local: 0, cloud: 0, degraded: 0, failed: 0, aborted: 0,
    localTokens: { input: 0, output: 0 }, cloudTokens: { input: 0, output: 0 },
    costUsd: 0, costIsBound: false, counterfactualUsd: 0, savedUsd: 0,
  };

  asked(): void {
    this.#sums.asked++;
  }

  /** `end`: the answer, or how it ended without. */
  add(record: DecisionRecord, end: Answer | "failed" | "aborted"): void {
    const sums = this.#sums;
    if (typeof end === "string") sums[end]++;
    else {
      sums[end.source]++;
      if (end.degraded) sums.degraded++;
    }
    count(sums.localTokens, record.localTokens);
    count(sums.cloudTokens, record.cloudTokens);
    sums.costUsd += record.costUsd;
    sums.costIsBound ||= record.costIsBound;
    sums.counterfactualUsd += record.counterfactualUsd;
    sums.savedUsd += record.savedUsd;
  }

  get(spentUsd: number, unsureUsd: number): RouterStats {
    const { local, cloud, localTokens, cloudTokens } = this.#sums;
    const localShare = local + cloud > 0 ? local / (local + cloud) : null;
    return { ...this.#sums, localTokens: { ...localTokens }, cloudTokens: { ...cloudTokens }, localShare, spentUsd, unsureUsd };
  }
}

function count(sum: Tokens, more: Tokens): void {
  sum.input += more.input;
  sum.output += more.output;
}
