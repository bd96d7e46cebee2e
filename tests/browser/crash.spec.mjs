// A crash at every operation on the files of the store: what is left is a model, the beginning of one, or nothing.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { launchWithProfile } from "./lib/browser.mjs";
import { throttled } from "./lib/hub.mjs";
import { openPackage } from "./lib/package.mjs";

const SOAK = Boolean(process.env.KINGLET_SOAK);
const FILE = Buffer.concat([Buffer.from("GGUF"), randomBytes(3_000_000)]);
const OTHER = Buffer.concat([Buffer.from("GGUF"), randomBytes(3_200_000)]);
const digestOf = (/** @type {Buffer} */ bytes) => createHash("sha256").update(bytes).digest("hex");

/** @type {Awaited<ReturnType<typeof openPackage>>} */
let it;
before(async () => void (it = await openPackage(() => launchWithProfile())));
after(() => it.close());

/**
 * Imports "/m.gguf" in a worker that dies at one of its operations on files; a write is torn in its middle. Resolves to how
 * many operations there were, and whether it died.
 */
function crash(/** @type {number} */ at, sha256 = "") {
  return it.page.evaluate(async ({ at, sha256 }) => {
    const name = `kinglet-crash-${Math.random()}`;
    const channel = new BroadcastChannel(name);
    const controller = new AbortController();
    let operations = 0;
    let died = false;
    channel.onmessage = ({ data }) => {
      operations = data.operations;
      if (!data.dead) return;
      died = true;
      controller.abort();
    };
    const start = patched(`
      const channel = new BroadcastChannel("${name}");
      let operations = 0;
      const die = () => {
        channel.postMessage({ operations, dead: true });
        Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
      };
      const { prototype } = FileSystemSyncAccessHandle;
      for (const name of ["write", "truncate", "flush", "close"]) {
        const act = prototype[name];
        prototype[name] = function (...args) {
          if (operations++ === ${at}) {
            if (name === "write") act.call(this, args[0].subarray(0, args[0].length / 2), args[1]);
            die();
          }
          channel.postMessage({ operations });
          return act.apply(this, args);
        };
      }
      const { removeEntry } = FileSystemDirectoryHandle.prototype;
      FileSystemDirectoryHandle.prototype.removeEntry = function (...args) {
        if (operations++ === ${at}) die();
        return removeEntry.apply(this, args);
      };`);
    const error = await failure(kinglet.models.import("/m.gguf", undefined, { worker: start, signal: controller.signal, ...(sha256 && { sha256 }) }));
    channel.close();
    return { operations, died, code: error.code };
  }, { at, sha256 });
}

/** What is stored under the name, with the digest of what it is. */
const stored = () => it.page.evaluate(async () => {
  const [model] = await kinglet.models.list();
  if (!model?.complete) return { model, digest: undefined };
  const [file] = await kinglet.models.export("/m.gguf");
  const digest = await crypto.subtle.digest("SHA-256", await file.arrayBuffer());
  return { model, digest: Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("") };
});

/** Crashes at operation after operation, each from the same beginning, and tries again without one. */
async function series(/** @type {import("node:test").TestContext} */ t, /** @type {() => Promise<void>} */ begin, /** @type {string[]} */ acceptable, /** @type {string} */ right, sha256 = "") {
  const step = SOAK ? 1 : 11;
  let [crashes, resumed] = [0, 0];
  for (let at = 0; ; at += step) {
    await begin();
    const { died } = await crash(at, sha256);
    const { model, digest } = await stored();
    if (model?.complete) assert.ok(acceptable.includes(digest ?? ""), `at operation ${at}: a wrong file counts as a model`);
    if (model && !model.complete && model.storedBytes > 0) resumed++;
    if (!died) break;
    crashes++;
    const { code, died: again } = await crash(Infinity, sha256);
    assert.deepEqual([code, again], ["nothing failed", false], `after operation ${at}`);
    assert.equal((await stored()).digest, right, `after operation ${at}`);
  }
  t.diagnostic(`${crashes} crashes, ${resumed} left a beginning`);
  assert.ok(crashes >= (SOAK ? 20 : 3) && resumed > 0, `${crashes} crashes`);
}

test("while a model is downloaded", { timeout: 600_000 }, async (t) => {
  await series(t, async () => {
    await it.open();
    it.route("/m.gguf", throttled(FILE, 6e6).route);
  }, [digestOf(FILE)], digestOf(FILE));
});

test("while the rest of one is downloaded that was begun", { timeout: 600_000 }, async (t) => {
  await series(t, async () => {
    await it.open();
    it.route("/m.gguf", throttled(FILE, 6e6).route);
    await crash(18);
  }, [digestOf(FILE)], digestOf(FILE));
});

test("while another version takes a model's place", { timeout: 600_000 }, async (t) => {
  await series(t, async () => {
    await it.open();
    it.route("/m.gguf", throttled(FILE, 60e6).route);
    await crash(Infinity);
    it.route("/m.gguf", throttled(OTHER, 6e6, { etag: '"v2"' }).route);
  }, [digestOf(FILE), digestOf(OTHER)], digestOf(OTHER), digestOf(OTHER));
});
