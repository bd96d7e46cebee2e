// node ask.mjs PAGE QUESTION: asks the demo page in headless Chromium, as a person would, and prints the answer while it streams.
import { launch, logOf } from "./lib/browser.mjs";

const [page_url, question] = process.argv.slice(2);
if (!page_url || !question) {
  console.error("usage: node ask.mjs PAGE QUESTION");
  process.exit(2);
}
const MINUTES = 5;
const browser = await launch();
const page = await browser.newPage();
const log = logOf(page);
let failure = "";
try {
  await page.goto(page_url);
  const box = page.locator("textarea");
  await box.fill(question);
  await box.press("Enter");
  const answer = page.locator('[role="log"] [data-from="assistant"]').last();
  const deadline = Date.now() + MINUTES * 60_000;
  let shown = 0;
  for (let busy = true; busy; ) {
    if (Date.now() > deadline) throw new Error(`no complete answer within ${MINUTES} minutes`);
    const state = await answer.evaluate((message) => ({
      busy: message.getAttribute("aria-busy") === "true",
      text: (message.querySelector("[data-text]") ?? message).textContent ?? "",
    }), null, { timeout: deadline - Date.now() });
    process.stdout.write(state.text.slice(shown));
    shown = state.text.length;
    busy = state.busy;
    if (busy) await page.waitForTimeout(50);
  }
  process.stdout.write("\n");
  const alert = await page.locator('[role="alert"]:visible').allTextContents();
  if (alert.join("").trim()) failure = alert.join(" ").trim();
  else if (shown === 0) failure = "the answer is empty";
} catch (error) {
  failure = `${error instanceof Error ? error.message : error}`;
}
if (failure) {
  const alert = await page.locator('[role="alert"]:visible').allTextContents().catch(() => []);
  console.error(["the demo page did not answer: " + failure, ...alert, ...log].join("\n"));
}
await browser.close();
process.exit(failure ? 1 : 0);
