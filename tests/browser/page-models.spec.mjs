// The demo page's models: what runs here, downloads, what is stored, adapters, and the memory guard.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, afterEach, before, test } from "node:test";
import { launchWithProfile } from "./lib/browser.mjs";
import { file, throttled } from "./lib/hub.mjs";
import { DATA, ROOT } from "./lib/server.mjs";
import { openSite, serveSite } from "./lib/site.mjs";

const STORIES = readFileSync(join(DATA, "stories260K/stories260K.gguf"));
const FIXTURES = join(ROOT, "tests/fixtures");
/** In the catalogue; here the hub has a smaller file under its name. */
const FILE = "/hub/HuggingFaceTB/SmolLM2-360M-Instruct-GGUF/resolve/main/smollm2-360m-instruct-q8_0.gguf";
const NAME = "SmolLM2 360M Instruct";
const { models } = JSON.parse(readFileSync(join(ROOT, "pkg/catalog.json"), "utf8"));
/** What a model of the catalogue takes on the CPU, in MB, at four thousand positions. */
const megabytes = (/** @type {string} */ id, /** @type {string} */ quantization) => models.find((/** @type {any} */ model) => model.id === id).files.find((/** @type {any} */ file) => file.quantization === quantization).memory.cpu / 1e6;
const LITTLE = `${megabytes("smollm2-360m-instruct", "Q8_0").toFixed(0)} MB`;
const MUCH = `${(megabytes("phi-4-mini-instruct", "Q4_K_M") / 1000).toFixed(1)} GB`;

/** @type {Awaited<ReturnType<typeof serveSite>>} */ let site;
/** @type {import("playwright-core").BrowserContext} */ let context;
/** @type {Awaited<ReturnType<typeof openSite>>} */ let it;
let slow = false;

before(async () => {
  const [quick, { route }] = [file(STORIES), throttled(STORIES, 300_000)];
  let calls = 0;
  site = await serveSite((request, response) => {
    if (request.url !== FILE) return false;
    (slow ? route : quick)(request, response, calls++);
    return true;
  });
});
after(() => site?.close());
afterEach(async () => {
  it?.quiet();
  slow = false;
  await context?.close();
});

async function open(search = "?seed=1", memory = 8) {
  context = await launchWithProfile();
  // A browser says of its device what this one would say of another.
  await context.addInitScript((memory) => Object.defineProperty(Navigator.prototype, "deviceMemory", { get: () => memory }), memory);
  it = await openSite(context, `${site.base}/${search}`);
  await it.ready();
  return it;
}
const onHub = `?seed=1&hub=${encodeURIComponent("/hub")}`;
const hub = () => `?seed=1&hub=${encodeURIComponent(`${site.base}/hub`)}`;

test("the catalogue says what each model takes and whether it runs here, before anything is downloaded", async () => {
  const { page } = await open(onHub, 2);
  const before = site.requests.length;
  await page.locator("#open-models").click();
  const entry = page.locator("#catalogue li", { hasText: NAME });
  await entry.waitFor();
  assert.match((await entry.textContent()) ?? "", new RegExp(`Runs here.*362M parameters.*386 MB to download.*${LITTLE} of memory.*Apache-2\\.0`));
  const large = page.locator("#catalogue li", { hasText: "Phi-4-mini" });
  assert.match((await large.textContent()) ?? "", new RegExp(`Probably too large.*${MUCH}.*2 GB or more.*Load anyway`));
  const choice = page.locator("#catalogue li", { hasText: "SmolLM2 1.7B" });
  const first = await choice.textContent();
  await choice.locator("select").selectOption("Q8_0");
  assert.notEqual(await choice.textContent(), first);
  assert.match((await page.locator("#device").textContent()) ?? "", /no usable GPU.*2 GB of memory/);
  assert.equal(await page.locator(".badge.suggested").count(), 1);
  assert.deepEqual(site.requests.slice(before).filter((request) => request.startsWith("GET /hub/")), []);
});

test("a download shows its rate and time left, is cancelled, resumed, used, remembered and deleted", async () => {
  slow = true;
  const { page, model, ready } = { ...(await open(hub())), model: it.page.locator("#model-name") };
  await page.locator("#open-models").click();
  await page.getByRole("button", { name: `Download: ${NAME}` }).click();
  await page.locator("#loading-bytes", { hasText: /kB of 1\.\d+ MB · \d+ kB\/s · \d+ s left/ }).waitFor();
  await page.getByRole("button", { name: "Cancel" }).first().click();
  await ready();
  assert.match((await model.textContent()) ?? "", /Kinglet/);
  assert.equal(await page.locator("#alert").textContent(), "");
  await page.locator("#open-models").click();
  await page.locator("#stored li", { hasText: /B of 1\.\d+ MB downloaded/ }).waitFor();
  slow = false;
  await page.locator("#stored").getByRole("button", { name: /^Resume/ }).click();
  await page.waitForFunction((name) => document.getElementById("model-name")?.textContent === name, NAME);
  await ready();
  // The next visit opens it, without its server.
  const before = site.requests.length;
  await page.goto(site.base + "/");
  await ready();
  assert.equal(await model.textContent(), NAME);
  assert.deepEqual(site.requests.slice(before).filter((request) => request.includes(FILE)), []);
  await page.locator("#open-models").click();
  await page.locator("#stored li", { hasText: /SmolLM2 360M Instruct, Q8_0/ }).waitFor();
  const [download] = await Promise.all([page.waitForEvent("download"), page.locator("#stored").getByRole("button", { name: /^Export/ }).click()]);
  assert.deepEqual(await readFile(await download.path()), STORIES);
  await page.locator("#use-embedded").click();
  await ready();
  await page.locator("#open-models").click();
  await page.locator("#stored").getByRole("button", { name: /^Delete/ }).click();
  await page.waitForFunction(() => document.querySelectorAll("#stored li").length === 0);
});

test("a file is imported, opened at the next visit, and all is deleted with one button", async () => {
  const { page, choose, ready } = await open();
  await page.locator("#open-models").click();
  await choose("#import-model", "stories.gguf", STORIES);
  await page.locator("#stored li", { hasText: "stories.gguf" }).waitFor();
  assert.match((await page.locator("#stored-summary").textContent()) ?? "", /1\.\d+ MB of models, and the browser grants .* more/);
  await page.locator("#stored").getByRole("button", { name: /^Use/ }).click();
  await page.waitForFunction(() => document.getElementById("where-text")?.textContent?.includes("F32"));
  await page.reload();
  await page.waitForFunction(() => document.getElementById("where-text")?.textContent?.includes("F32"));
  await ready();
  await page.locator("#open-models").click();
  page.on("dialog", (dialog) => dialog.accept());
  await page.locator("#use-embedded").click();
  await ready();
  await page.locator("#open-models").click();
  await page.locator("#delete-models").click();
  await page.waitForFunction(() => document.querySelectorAll("#stored li").length === 0);
});

test("what is too large for this device is refused before it is loaded, with what would run", async () => {
  const start = site.requests.length;
  const { page, alert, ask } = await open(`${hub()}&model=phi-4-mini-instruct`, 1);
  await alert.getByText(new RegExp(`Phi-4-mini Instruct is probably too large.*${MUCH}`)).waitFor();
  assert.equal(site.requests.slice(start).filter((request) => request.startsWith("GET /hub/")).length, 0);
  assert.notEqual(await ask("Hello!"), "", "the built-in model answers");
  await page.locator("#open-models").click();
  await page.locator("#url").fill("qwen2.5-3b-instruct");
  await page.getByRole("button", { name: "Load", exact: true }).click();
  await alert.getByText(/Qwen2\.5 3B Instruct is probably too large/).waitFor();
  assert.ok(await alert.getByRole("button", { name: /^Use / }).isVisible());
  assert.match((await page.locator("#model-name").textContent()) ?? "", /Kinglet/, "what ran goes on");
  // The person may know better: then it is asked for.
  const before = site.requests.length;
  await alert.getByRole("button", { name: "Load anyway" }).click();
  await alert.getByText(/Qwen2\.5 3B Instruct: .*404/).waitFor();
  assert.ok(site.requests.slice(before).some((request) => request.includes("/hub/")));
});

test("adapters of both kinds are dropped in, weighed and removed", async () => {
  const { page, choose, alert, answers, ready } = await open(`?seed=1&model=${encodeURIComponent("fixtures/golden/f32.gguf")}`);
  const again = async () => {
    await page.getByRole("button", { name: "New conversation" }).first().click();
    await page.locator("textarea").fill("the day");
    await page.locator("textarea").press("Enter");
    await page.locator(".note").first().waitFor();
    return answers.first().textContent();
  };
  await ready();
  const base = await again();
  // Dropped anywhere on the page.
  await page.evaluate(async () => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([await (await fetch("/fixtures/lora/f32/all.gguf")).arrayBuffer()], "all.gguf"));
    document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
  });
  await page.locator("#adapters li").waitFor({ state: "attached" });
  const adapted = await again();
  assert.notEqual(adapted, base);
  await page.locator("#open-models").click();
  await page.locator("#models summary", { hasText: "LoRA" }).click();
  await page.getByLabel("Scale of all.gguf").fill("0");
  assert.equal(await page.locator("#adapters output").textContent(), "0.00");
  await page.locator("#close-models").click();
  assert.equal(await again(), base, "a scale of nothing is the base");
  await page.locator("#open-models").click();
  await page.getByRole("button", { name: "Remove: all.gguf" }).click();
  await page.waitForFunction(() => document.querySelectorAll("#adapters li").length === 0);
  const peft = (/** @type {string} */ name) => ({ name, mimeType: "", buffer: readFileSync(join(FIXTURES, "lora/f32/some", name)) });
  await page.locator("#adapter-file").setInputFiles([peft("adapter_config.json"), peft("adapter_model.safetensors")]);
  await page.locator("#adapters li", { hasText: "adapter_model.safetensors" }).waitFor();
  await page.locator("#close-models").click();
  assert.notEqual(await again(), base);
  await page.locator("#adapter-file").setInputFiles([peft("adapter_model.safetensors")]);
  await alert.getByText(/needs its adapter_config\.json/).waitFor();
  await choose("#adapter-file", "broken.gguf", "GGUF and nothing");
  await alert.getByText(/adapter/i).waitFor();
});
