// Downloads from a hub where everything goes wrong, by a page that is reloaded and changes its mind: each ends with the
// right file or with an error that says why, and never is a wrong file taken for a model.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { machineFacts } from "../../benches/web/lib/machine.mjs";
import { launchWithProfile } from "./lib/browser.mjs";
import { badHub, generator } from "./lib/faults.mjs";
import { GOLDEN, openPackage, STORIES } from "./lib/package.mjs";

const SOAK = Boolean(process.env.KINGLET_SOAK);
const COUNT = SOAK ? 1000 : 40;
const TABS = 4;
const SEED = Number(process.env.KINGLET_SEED ?? 1);
const CODES = ["DOWNLOAD_FAILED", "INTEGRITY", "NOT_A_MODEL", "CORRUPT_FILE", "ABORTED"];

const digestOf = (/** @type {Buffer} */ bytes) => createHash("sha256").update(bytes).digest("hex");

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage(() => launchWithProfile())));
after(() => it.close());

/** A model that answers, or bytes of any size; its second version differs all over. */
function makeFile(random) {
  const answers = random() < 0.15;
  const size = answers ? STORIES.length + Math.floor(random() * 1e5) : Math.ceil(10 ** (3 + 3.3 * random()));
  const make = () => {
    const bytes = Buffer.alloc(size + Math.floor(random() * 3));
    for (let i = 0; i + 4 <= bytes.length; i += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), i);
    bytes.write("GGUF");
    if (answers) STORIES.copy(bytes);
    return bytes;
  };
  return { answers, versions: [make(), make()] };
}

/** One download until it ends well, or with what no repetition cures. */
async function download(page, i, totals) {
  const random = generator(SEED * 100_003 + i);
  const { answers, versions } = makeFile(random);
  const known = random() < 0.6;
  const path = `/hub/${i}.gguf`;
  const hub = badHub({ versions, random, silent: known, validators: random() < 0.85, badRequests: 3 + Math.floor(random() * 12), route: it.route, path, elsewhere: it.other.base });
  const digests = versions.map(digestOf);
  const sha256 = known ? digests[0] : undefined;
  const cache = ["opfs", "opfs", "opfs", "cache-api"][Math.floor(random() * 4)];
  const stored = () => page.evaluate(async (path) => (await kinglet.models.list()).find(({ model }) => new URL(model).pathname === path), path);

  for (let attempt = 1; ; attempt++) {
    assert.ok(attempt < 40, `download ${i} has not ended after ${attempt} attempts`);
    hub.calm = attempt > 12;
    const interruption = random() < 0.25 && !hub.calm ? random() * 120 : undefined;
    const reload = interruption !== undefined && random() < 0.5;
    const trying = page.evaluate(async ({ path, sha256, cache, answers, patience }) => {
      const controller = new AbortController();
      if (patience !== undefined) setTimeout(() => controller.abort(), patience);
      const options = { sha256, cache, signal: controller.signal };
      const ids = [];
      const error = await failure((async () => {
        if (!answers) return kinglet.models.import(path, undefined, options);
        const engine = await createEngine({ model: path, backend: "cpu", ...options });
        ids.push(...(/** @type {any} */ (await greedy(engine)).choices[0].token_ids));
        await engine.dispose();
      })());
      return { error, ids };
    }, { path, sha256, cache, answers, patience: reload ? undefined : interruption }).catch((e) => {
      assert.ok(reload, `download ${i}: ${e}`);
      return undefined;
    });
    if (reload) {
      await new Promise((resolve) => setTimeout(resolve, interruption));
      await page.reload();
      await page.evaluate(it.inPage);
      totals.reloads++;
    }
    const got = await trying;
    const state = await stored();
    if (state?.complete) {
      // Whatever came of this attempt: what is stored as a model has to be one of the hub's.
      const found = await page.evaluate(async (path) => {
        const [file] = await kinglet.models.export(path);
        const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
        return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
      }, path);
      assert.deepEqual([found], state.sha256, `download ${i}: not what was said to be stored`);
      assert.ok(known ? found === sha256 : digests.includes(found), `download ${i}: a corrupted file was accepted`);
      assert.equal(state.verified, known);
    }
    if (got?.error.code === "nothing failed") {
      assert.ok(state?.complete, `download ${i} is not stored`);
      if (answers) assert.deepEqual(got.ids, GOLDEN.ids.slice(0, 40));
      totals.right++;
      totals.attempts += attempt;
      totals.sent += hub.sent;
      totals.resumed += hub.resumed;
      totals.bytes += versions[hub.version].length;
      break;
    }
    if (got) {
      assert.ok(got.error.isKinglet && CODES.includes(got.error.code), `download ${i}: ${got.error.code}: ${got.error.message}`);
      totals.errors[got.error.code] = (totals.errors[got.error.code] ?? 0) + 1;
    }
    // The hub has the other version for good, and the caller insists on the first.
    if (known && hub.version > 0 && hub.calm && got?.error.code === "INTEGRITY") {
      assert.equal(state, undefined, `download ${i}: what is wrong was kept`);
      totals.refused++;
      break;
    }
  }
  for (const [fault, count] of Object.entries(hub.faults)) totals.faults[fault] = (totals.faults[fault] ?? 0) + count;
  await page.evaluate((path) => kinglet.models.delete(path), path);
}

test(`${COUNT} downloads from a bad hub`, { timeout: 3_600_000 }, async (t) => {
  const totals = { right: 0, refused: 0, attempts: 0, reloads: 0, resumed: 0, sent: 0, bytes: 0, errors: {}, faults: {} };
  const started = performance.now();
  let next = Number(process.env.KINGLET_FIRST ?? 0);
  const end = next + COUNT;
  await Promise.all(Array.from({ length: TABS }, async () => {
    const page = await it.newTab();
    while (next < end) await download(page, next++, totals);
    await page.close();
  }));
  const seconds = Math.round((performance.now() - started) / 1000);
  const count = (/** @type {Record<string, number>} */ of) => Object.entries(of).map(([what, count]) => `${count} ${what}`).join(", ");
  t.diagnostic(`${totals.right} right files in ${totals.attempts} attempts, ${totals.refused} refused for good, 0 corrupted accepted, in ${seconds} s`);
  t.diagnostic(`${totals.reloads} reloads of the page, ${totals.resumed} requests for the rest of a file; errors on the way: ${count(totals.errors)}`);
  t.diagnostic(`faults: ${count(totals.faults)}; sent ${(totals.sent / totals.bytes).toFixed(2)} times the bytes`);
  assert.equal(totals.right + totals.refused, COUNT);
  const record = process.env.KINGLET_RECORD;
  if (record) writeFileSync(record, JSON.stringify({ machine: machineFacts(process.env.CHROMIUM ?? "/usr/bin/chromium"), count: COUNT, seed: SEED, seconds, ...totals }, null, 1) + "\n");
  const left = await it.page.evaluate(async () => (await kinglet.models.list()).map(({ model }) => model));
  assert.deepEqual(left, []);
});
