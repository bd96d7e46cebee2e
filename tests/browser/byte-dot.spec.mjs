// Quantized models with and without the one instruction that multiplies bytes (AVX-VNNI's): the same bits, and with it Q8_0's activations
// take half the room. Where the processor has none both are without; native tests imitate it (tests/kernels.rs).
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { openPackage } from "./lib/package.mjs";

const TYPES = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"];
const HAS_IT = readFileSync("/proc/cpuinfo", "utf8").includes("avx_vnni");
const PROMPT = "Once upon a time there was a kinglet, and it sang in the oak.";

/** Of each type: prefill, then 16 tokens one by one, with what their alternatives had. */
function answers(/** @type {string[]} */ flags, /** @type {number} */ threads) {
  return openPackage(() => launch(flags)).then(async (it) => {
    try {
      return await it.page.evaluate(async ({ types, prompt, threads }) => {
        const found = [];
        for (const type of types) {
          const engine = await createEngine({ model: `/golden/${type}.gguf`, backend: "cpu", threads });
          const [choice] = (await greedy(engine, { prompt, max_tokens: 16, ignore_eos: true, logprobs: 5 })).choices;
          found.push({ choice, scratch: (await engine.memory()).scratch });
          await engine.dispose();
        }
        return found;
      }, { types: TYPES, prompt: PROMPT, threads });
    } finally {
      await it.close();
    }
  });
}

for (const threads of [1, 2]) {
  test(`the answers of all quantized types are the same to the last bit, ${threads} thread(s)`, async () => {
    const asItIs = await answers([], threads);
    const without = await answers(["--js-flags=--no-enable-avx-vnni"], threads);
    for (const [i, type] of TYPES.entries()) {
      assert.equal(asItIs[i].choice.token_ids.length, 16, type);
      assert.deepEqual(asItIs[i].choice, without[i].choice, type);
    }
    const [some, all] = [asItIs, without].map((answers) => answers[TYPES.indexOf("q8_0")].scratch);
    assert.equal(some < all, HAS_IT, `Q8_0: ${some} bytes for a batch, ${all} without the instruction`);
  });
}
