// The demo page's router: off at first, consent with exactly what is sent, drafts that survive every failure, books, outbox.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { startFaultServer } from "./lib/fault-server.mjs";
import { accessible, openSite, serveSite } from "./lib/site.mjs";

/** @type {Awaited<ReturnType<typeof serveSite>>} */ let site;
/** @type {Awaited<ReturnType<typeof startFaultServer>>} */ let cloud;
/** @type {import("playwright-core").Browser} */ let browser;
/** @type {Awaited<ReturnType<typeof openSite>>} */ let it;

before(async () => {
  [site, cloud, browser] = await Promise.all([serveSite(), startFaultServer(), launch()]);
});
after(async () => {
  await browser?.close();
  site?.close();
  cloud?.close();
});
afterEach(async () => {
  it?.quiet();
  for (const context of browser.contexts()) await context.close();
});

async function open() {
  it = await openSite(await browser.newContext(), `${site.base}/?seed=1`);
  await it.ready();
  return it;
}

/** Fills the form and switches the router on. */
async function switchOn(/** @type {string} */ url, /** @type {Record<string, string>} */ { mode = "prefer-cloud", token = "" } = {}) {
  const section = await it.openPanel("server");
  await section.getByLabel("Who answers").selectOption(mode);
  await section.getByLabel("Address of the chat completions").fill(url);
  await section.getByLabel("Model there").fill("large");
  await section.getByLabel("Token, if it wants one").fill(token);
  await section.getByLabel("$ per million in").fill("1000");
  await section.getByLabel("$ per million out").fill("2000");
  await section.getByLabel("$ a day at most").fill("50");
  await section.getByRole("button", { name: "Switch on" }).click();
  await section.locator("#router > [role=status]").and(it.page.getByText(/^(On|Not switched on)/)).waitFor();
  return section;
}

async function send(/** @type {string} */ text) {
  const { box, answers, page } = it;
  const before = await answers.count();
  await box.fill(text);
  await box.press("Enter");
  return {
    consent: page.locator("dialog.consent"),
    /** Text, source, and what stands below. */
    async answer() {
      const answer = answers.nth(before);
      await answer.and(page.locator('[aria-busy="false"]')).waitFor();
      return { text: (await answer.textContent()) ?? "", source: await answer.getAttribute("data-source"), foot: (await page.locator(".turn").last().locator(".foot").textContent()) ?? "" };
    },
  };
}

test("nothing is sent while it is off, or before the exact preview was agreed to", async () => {
  const { page } = await open();
  const { url, path } = await cloud.fault("none", 1, 0);
  const opened = cloud.connections.opened;
  await it.ask("Hello!");
  const section = await switchOn(url);
  await section.getByText("the server is asked first").waitFor();
  const { consent, answer } = await send("Write to jane@example.com about Paris");
  await consent.waitFor();
  assert.equal(cloud.connections.opened, opened, "no socket yet");
  const preview = (await consent.locator("pre").textContent()) ?? "";
  assert.doesNotMatch(preview, /jane@example\.com/);
  assert.match((await consent.textContent()) ?? "", /1 × email/i);
  await accessible(page, "the consent");
  await consent.getByRole("button", { name: "Send once" }).click();
  const { text, source, foot } = await answer();
  assert.match(text, /Paris – die Hauptstadt/);
  assert.equal(source, "cloud");
  assert.match(foot, /From large at localhost:\d+/);
  const [sent] = cloud.posts(path);
  assert.deepEqual(JSON.parse(sent.body), JSON.parse(preview), "exactly what was shown");
  await section.getByText(/0 % \(0 of 1\)/).waitFor();
  // 14 and 9 tokens at 1,000 and 2,000 dollars a million.
  await section.locator(".books", { hasText: /Saved\$0.*Spent\$0\.03 of \$50\.00 today/ }).waitFor();
});

test("a no, and a server that fails, leave the local answer", async () => {
  await open();
  const healthy = await cloud.fault("none", 2, 0);
  const section = await switchOn(healthy.url);
  const asked = await send("Who are you?");
  await asked.consent.getByRole("button", { name: "Keep it here" }).click();
  const local = await asked.answer();
  assert.equal(local.source, "local");
  assert.match(local.text, /Kinglet/);
  assert.match(local.foot, /On this device.*the server was wanted.*not asked/);
  assert.deepEqual(cloud.posts(healthy.path), []);
  const broken = await cloud.fault("402", 3);
  await switchOn(broken.url);
  const failed = await send("Who are you?");
  await failed.consent.getByRole("button", { name: "Send once" }).click();
  const draft = await failed.answer();
  assert.equal(draft.source, "local");
  assert.match(draft.text, /Kinglet/);
  assert.equal(cloud.posts(broken.path).length, 1);
  await section.getByText("100 % (1 of 1)").waitFor();
});

test("consents for good are listed and revoked, and the settings are kept but for the token", async () => {
  const { page } = await open();
  const { url } = await cloud.fault("none", 4, 0);
  let section = await switchOn(url, { token: "short-lived-token" });
  const first = await send("Hello!");
  await first.consent.getByRole("button", { name: /^Always/ }).click();
  assert.equal((await first.answer()).source, "cloud");
  const second = await send("Hello again!");
  assert.equal((await second.answer()).source, "cloud", "without another question");
  assert.ok(cloud.seen.filter(({ method }) => method === "POST").at(-1)?.headers.authorization === "Bearer short-lived-token");
  assert.doesNotMatch(await page.evaluate(() => JSON.stringify(localStorage)), /short-lived-token/);
  await page.reload();
  await it.ready();
  section = await it.openPanel("server");
  await section.getByText("large at localhost").waitFor();
  assert.equal(await section.getByLabel("Token, if it wants one").inputValue(), "");
  await section.getByRole("button", { name: /^Revoke/ }).click();
  await section.getByText("Always allowed").waitFor({ state: "detached" });
  const third = await send("And now?");
  await third.consent.getByRole("button", { name: "Keep it here" }).click();
  assert.equal((await third.answer()).source, "local");
  await section.getByRole("button", { name: "Switch off" }).click();
  await section.getByText("Off: nothing leaves this device.").waitFor();
});

test("a provider's own key is refused, and says so", async () => {
  await open();
  const { url } = await cloud.fault("none", 5, 0);
  const section = await switchOn(url, { token: `sk-proj-${"a1B2".repeat(12)}` });
  await section.getByText(/Not switched on: .*key/).waitFor();
  assert.notEqual(await it.ask("Hello!"), "");
});

test("without a network the question waits, and is answered later", async () => {
  const { page } = await open();
  const { url } = await cloud.fault("none", 6, 0);
  const section = await switchOn(url);
  const first = await send("Hello!");
  await first.consent.getByRole("button", { name: /^Always/ }).click();
  await first.answer();
  await page.context().setOffline(true);
  const { text, source, foot } = await (await send("What is the capital of France?")).answer();
  assert.equal(source, "local");
  assert.notEqual(text, "");
  assert.match(foot, /waits for the network/);
  await section.getByText("Waits for the network").waitFor();
  await page.context().setOffline(false);
  await page.locator('[data-from="assistant"][data-source="cloud"]').nth(1).waitFor();
  assert.match((await page.locator(".foot").last().textContent()) ?? "", /to an earlier question/);
});

test("auto keeps what the built-in model is sure of, and wants the server where it is not", async () => {
  const { page } = await open();
  const { url, path } = await cloud.fault("none", 40, 0);
  await switchOn(url, { mode: "auto" });
  const sure = await (await send("Who are you?")).answer();
  assert.equal(sure.source, "local");
  assert.doesNotMatch(sure.foot, /server was wanted/);
  assert.equal(cloud.posts(path).length, 0);
  await page.getByRole("button", { name: "New conversation" }).first().click();
  // It answers something, no refusal; only its calibration tells how unsure it is.
  const unsure = await send("Where does the model go on holiday?");
  await unsure.consent.getByRole("button", { name: "Send once" }).click();
  assert.equal((await unsure.answer()).source, "cloud");
  assert.equal(cloud.posts(path).length, 1);
});
