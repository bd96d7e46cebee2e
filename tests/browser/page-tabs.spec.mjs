// One conversation in two tabs of the demo page: each page's words stay, whoever is quicker, closes or goes away.
import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { launch } from "./lib/browser.mjs";
import { openSite, serveSite } from "./lib/site.mjs";

const STORY = "Tell me a story about a bird.";
const ELSEWHERE = /Open in another tab/;
const COPY = /A copy from here on/;

/** @type {Awaited<ReturnType<typeof serveSite>>} */ let site;
/** @type {import("playwright-core").Browser} */ let browser;
/** @type {Awaited<ReturnType<typeof openSite>>[]} */ let tabs = [];

before(async () => {
  site = await serveSite();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  site?.close();
});
afterEach(async () => {
  for (const tab of tabs.splice(0)) tab.quiet();
  for (const context of browser.contexts()) await context.close();
});

/** A tab beside the others, once they have written what was said. */
async function open(context = browser.contexts()[0]) {
  for (const { page } of tabs) {
    const said = 2 * (await page.locator('[data-from="user"]').count());
    while ((await kept(page)).every((texts) => texts.length < said)); // each look takes 600 ms
  }
  const it = await openSite(context, `${site.base}/?seed=1`);
  await it.ready();
  tabs.push(it);
  const questions = it.page.locator('[data-from="user"]');
  return {
    ...it, questions,
    line: it.page.locator(".elsewhere"),
    /** Until it has so many questions, all answered. */
    async has(/** @type {number} */ count) {
      await questions.nth(count - 1).waitFor();
      await it.answers.nth(count - 1).and(it.page.locator('[aria-busy="false"]')).waitFor();
      assert.equal(await questions.count(), count);
    },
    said: () => it.page.locator('[role="log"] [data-from]').allTextContents(),
    /** Asks for a story, and does something to the page at its first words. */
    async during(/** @type {string} */ act) {
      await it.page.evaluate((act) => {
        // The rate is told with each piece, the words are drawn with the next frame: the answer may be over by then.
        new MutationObserver((_, observer) => {
          if (!document.querySelector('[aria-busy="true"]')) return;
          observer.disconnect();
          if (act === "reload") location.reload();
          else if (act === "leave") location.href = "about:blank";
          else /** @type {HTMLElement} */ (document.querySelector(act)).click();
        }).observe(/** @type {Element} */ (document.querySelector("#speed")), { childList: true });
      }, act);
      await it.box.fill(STORY);
      await it.box.press("Enter");
    },
  };
}

/** What is kept, the oldest first. */
const conversations = (/** @type {import("playwright-core").Page} */ page) => page.evaluate(async () => {
  await new Promise((resolve) => setTimeout(resolve, 600)); // changes are put together
  const database = await new Promise((resolve) => (indexedDB.open("kinglet-conversations").onsuccess = ({ target }) => resolve(/** @type {any} */ (target).result)));
  const all = await new Promise((resolve) => (database.transaction("conversations").objectStore("conversations").getAll().onsuccess = ({ target }) => resolve(target.result)));
  database.close();
  return all.filter((one) => typeof one !== "string").sort((a, b) => a.changed - b.changed);
});
/** The texts of each. */
const kept = async (/** @type {import("playwright-core").Page} */ page) => (await conversations(page)).map(({ messages }) => messages.map((/** @type {{ text: string }} */ { text }) => text));

test("a second tab follows what is said in the first, and goes on as a copy; each comes back with its own", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Who are you?");
  const second = await open();
  await second.has(1);
  await second.line.getByText(ELSEWHERE).waitFor();
  await first.ask("What can you do?");
  await second.has(2);
  assert.deepEqual(await second.said(), await first.said(), "as it is said there");
  assert.match((await second.page.locator('[role="log"] > :last-child').textContent()) ?? "", ELSEWHERE, "the line stays below");
  await second.ask("Thank you!");
  await second.line.getByText(COPY).waitFor();
  const [ours, theirs] = [await first.said(), await second.said()];
  assert.equal(ours.length, 4);
  assert.deepEqual(theirs.slice(0, 4), ours);
  assert.equal(theirs.length, 6);
  await first.ask("Hello!");
  assert.deepEqual(await second.said(), theirs, "it is another conversation now");
  assert.deepEqual((await kept(first.page)).map((texts) => texts.length), [6, 6]);
  for (const [tab, last] of /** @type {const} */ ([[first, "Hello!"], [second, "Thank you!"]])) {
    await tab.page.reload();
    await tab.has(3);
    assert.equal(await tab.questions.last().textContent(), last);
    assert.equal(await tab.line.count(), 0);
  }
});

test("both answer and both go away in the middle: each answer is there as far as it came", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Hello!");
  const second = await open();
  await second.has(1);
  await second.ask("Who are you?");
  await second.line.getByText(COPY).waitFor();
  const loads = [first, second].map(({ page }) => page.waitForEvent("load"));
  await Promise.all([first.during("reload"), second.during("reload")]);
  await Promise.all(loads);
  for (const [tab, count] of /** @type {const} */ ([[first, 2], [second, 3]])) {
    await tab.has(count);
    assert.notEqual(await tab.answers.last().textContent(), "");
  }
  const all = await kept(first.page);
  assert.deepEqual(all.map((texts) => texts.length).sort(), [4, 6]);
  for (const texts of all) assert.ok(texts.at(-2) === STORY && texts.at(-1), texts.join("\n"));
});

test("when the first goes away in the middle of an answer, the second has what it said, and goes on", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Hello!");
  const second = await open();
  await second.line.getByText(ELSEWHERE).waitFor();
  await first.during("leave");
  await second.line.waitFor({ state: "detached" });
  await second.has(2);
  const partial = (await second.answers.last().textContent()) ?? "";
  assert.notEqual(partial, "");
  await second.ask("Who are you?");
  const all = await kept(second.page);
  assert.deepEqual(all.map((texts) => texts.length), [6]);
  assert.deepEqual(all[0].slice(2, 5), [STORY, partial, "Who are you?"]);
});

test("what the first left as it went is shown even where it arrives after the second has taken over", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Hello!");
  const second = await open();
  await second.line.getByText(ELSEWHERE).waitFor();
  await first.page.close();
  await second.line.waitFor({ state: "detached" });
  // The browser hands on locks and localStorage in no fixed order: another page of the site leaves it now.
  const late = await browser.contexts()[0].newPage();
  await late.goto(`${site.base}/icon.svg`);
  const [one] = await conversations(second.page);
  const [question, answer] = one.messages;
  const left = { ...one, changed: one.changed + 1, messages: [question, answer, { ...question, text: STORY }, { ...answer, text: "A bird sang" }] };
  await late.evaluate((left) => localStorage.setItem(`kinglet-left/${left.id}`, JSON.stringify(left)), left);
  await second.has(2);
  assert.match((await second.answers.last().textContent()) ?? "", /A bird sang/);
  await second.ask("Who are you?");
  assert.deepEqual((await kept(second.page)).map((texts) => texts.slice(2, 5)), [[STORY, "A bird sang", "Who are you?"]]);
});

test("when the first is closed, or opens another conversation in the middle of an answer, it is the second's as it stands", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Hello!");
  const second = await open();
  await second.line.getByText(ELSEWHERE).waitFor();
  await first.during("#restart");
  await second.line.waitFor({ state: "detached" });
  await second.has(2);
  const [texts] = await kept(second.page);
  assert.equal(texts.length, 4);
  assert.notEqual(texts[3], "", "as far as it came");
  assert.equal(await second.answers.last().textContent(), texts[3]);
  await second.during("#stop"); // a whole story may fill the context
  await second.has(3);
  // The first takes it up again, as the second has it, and has it back when that one is closed.
  await first.openPanel("Conversations");
  await first.page.locator("#conversations .title-button").first().click();
  await first.has(3);
  await first.line.getByText(ELSEWHERE).waitFor();
  await second.page.close();
  await first.line.waitFor({ state: "detached" });
  await first.ask("What can you do?");
  const all = await kept(first.page);
  assert.deepEqual(all.map((texts) => texts.length), [8]);
  assert.deepEqual(all[0].slice(0, 4), texts);
});

test("a page that the browser kept while another went on has what that one said", async () => {
  const first = await open(await browser.newContext());
  await first.ask("Hello!");
  // Chromium keeps no page that holds a lock; others take the lock away.
  await first.page.evaluate(async () => {
    const lock = (await navigator.locks.query()).held?.find(({ name }) => name?.startsWith("kinglet-conversation/"));
    await new Promise((resolve) => void navigator.locks.request(lock?.name ?? "", { steal: true }, () => (resolve(null), new Promise((release) => Object.assign(window, { release })))));
  });
  const second = await open();
  await second.line.getByText(ELSEWHERE).waitFor();
  await first.page.evaluate(() => /** @type {any} */ (window).release());
  await second.line.waitFor({ state: "detached" });
  await second.ask("Who are you?");
  await kept(second.page);
  await first.page.evaluate(() => dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true })));
  await first.has(2);
  await first.line.getByText(ELSEWHERE).waitFor();
  await first.ask("Thank you!");
  assert.deepEqual((await kept(first.page)).map((texts) => texts.length), [4, 6]);
});
