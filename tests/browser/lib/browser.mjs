// The browsers of the tests, headless: real Chromium, and for WebGPU's other implementation real Firefox.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";
import puppeteer from "puppeteer-core";

/** WebGPU on SwiftShader, a program that plays a GPU. */
export const SWIFTSHADER = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader"];
/** WebGPU on Mesa's lavapipe, another one. */
const LAVAPIPE = { "dom.webgpu.enabled": true, "dom.webgpu.workers.enabled": true, "gfx.webgpu.ignore-blocklist": true };

const FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

/** Where a browser is: what the variable says, else Debian's place for it. */
function browserPath(variable, debian) {
  const path = process.env[variable] ?? debian;
  if (!existsSync(path)) throw new Error(`no browser at ${path}: run \`cargo xtask setup\` or set $${variable}`);
  return path;
}

/**
 * Starts Chromium.
 * @param {string[]} [flags] beside the usual ones
 */
export function launch(flags = []) {
  return chromium.launch({ executablePath: browserPath("CHROMIUM", "/usr/bin/chromium"), headless: true, args: [...FLAGS, ...flags] });
}

/** @type {string[]} */
const temporary = [];
process.on("exit", () => temporary.forEach((folder) => rmSync(folder, { recursive: true, force: true })));

/** A folder that is gone when the tests are over. */
export function temporaryFolder(/** @type {string} */ name) {
  const folder = mkdtempSync(join(tmpdir(), `kinglet-${name}-`));
  temporary.push(folder);
  return folder;
}

/** Starts Chromium with a profile on the disk: without one it keeps files in memory, and no quota is held against them. */
export function launchWithProfile(/** @type {string[]} */ flags = []) {
  const folder = temporaryFolder("profile");
  return chromium.launchPersistentContext(folder, { executablePath: browserPath("CHROMIUM", "/usr/bin/chromium"), headless: true, args: [...FLAGS, ...flags] });
}

/** Starts Chromium with an unpacked extension. */
export function launchWithExtension(/** @type {string} */ folder) {
  const profile = temporaryFolder("profile");
  const args = [...FLAGS, "--headless=new", `--load-extension=${folder}`, "--disable-features=DisableLoadExtensionCommandLineSwitch"];
  return chromium.launchPersistentContext(profile, { executablePath: browserPath("CHROMIUM", "/usr/bin/chromium"), headless: false, args, ignoreDefaultArgs: ["--disable-extensions"] });
}

/** Starts Firefox with WebGPU. Playwright would need a Firefox of its own; Puppeteer speaks the standard protocol. */
export function launchFirefox() {
  return puppeteer.launch({ browser: "firefox", executablePath: browserPath("FIREFOX", "/usr/bin/firefox-esr"), headless: true, extraPrefsFirefox: LAVAPIPE });
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
