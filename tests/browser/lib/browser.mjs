// The browser that every test uses: real Chromium, headless.
import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Where Chromium is: $CHROMIUM, else Debian's place for it. */
export function browserPath() {
  const path = process.env.CHROMIUM ?? "/usr/bin/chromium";
  if (!existsSync(path)) throw new Error(`no browser at ${path}: run \`cargo xtask setup\` or set $CHROMIUM`);
  return path;
}

/**
 * Starts Chromium.
 * @param {string[]} [flags] beside the usual ones
 */
export function launch(flags = []) {
  return chromium.launch({ executablePath: browserPath(), headless: true, args: [...FLAGS, ...flags] });
}

/**
 * Keeps what a page says on its console and what it throws, to show when a test fails.
 * @param {import("playwright-core").Page} page
 */
export function logOf(page) {
  /** @type {string[]} */
  const log = [];
  page.on("console", (message) => log.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => log.push(`page error: ${error.stack ?? error.message}`));
  page.on("crash", () => log.push("the page crashed"));
  return log;
}
