// Each project of tests/packaging with the packed tarball: installed, built, served under a strict policy, and asked in a browser.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { launch, launchFirefox } from "./lib/browser.mjs";
import { ROOT, serve } from "./lib/server.mjs";
import { launchWebKit } from "./lib/webkit.mjs";

const PROJECTS = join(ROOT, "tests/packaging");
const BUILT = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, "target"), "packaging");
const tarball = readdirSync(join(ROOT, "pkg")).find((name) => name.endsWith(".tgz"));

/** What the documentation tells an app to allow, and styles; next.js puts scripts into its pages. */
const [DOCUMENTED = ""] = /^default-src 'none';.*$/m.exec(readFileSync(join(ROOT, "pkg/docs/troubleshooting.md"), "utf8")) ?? [];
const POLICY = `${DOCUMENTED.replace("'wasm-unsafe-eval'", "'wasm-unsafe-eval' SCRIPTS")}; style-src 'self'; base-uri 'none'`;

/** @type {import("playwright-core").Browser} */
let browser;
before(async () => {
  assert.match(DOCUMENTED, /script-src/, "the policy of the documentation");
  assert.ok(tarball, "the package is not packed: run `cargo xtask pack`");
  browser = await launch();
});
after(() => browser?.close());

/** Copies a project and installs what it needs. */
function install(/** @type {string} */ name, as = name) {
  const folder = join(BUILT, as);
  mkdirSync(folder, { recursive: true });
  // What was installed before is checked by npm, not installed anew.
  for (const entry of readdirSync(folder)) if (entry !== "node_modules") rmSync(join(folder, entry), { recursive: true });
  for (const file of ["app.js", "main.js"]) cpSync(join(PROJECTS, file), join(folder, file));
  cpSync(join(PROJECTS, name), folder, { recursive: true });
  const npm = (/** @type {string[]} */ ...args) => run("npm", [...args, "--no-audit", "--no-fund", "--loglevel=error"], folder);
  if (existsSync(join(folder, "package-lock.json"))) npm("ci");
  npm("install", "--no-save", "--no-package-lock", join(ROOT, "pkg", /** @type {string} */ (tarball)));
  return folder;
}

function run(/** @type {string} */ program, /** @type {string[]} */ args, /** @type {string} */ cwd) {
  try {
    return execFileSync(program, args, { cwd, encoding: "utf8", stdio: "pipe", env: { ...process.env, NEXT_TELEMETRY_DISABLED: "1", CI: "1" } });
  } catch (e) {
    const { stdout, stderr } = /** @type {{ stdout: string, stderr: string }} */ (e);
    throw new Error(`${program} ${args.join(" ")} in ${cwd}:\n${stdout}\n${stderr}`);
  }
}

/** What the page says, served from `folder`. */
async function says(/** @type {string} */ folder, scripts = "", open = async () => browser.newPage()) {
  const site = await serve({ "/": `${folder}/` }, (_, response) => void response.setHeader("Content-Security-Policy", POLICY.replace("SCRIPTS", scripts)));
  const page = /** @type {import("playwright-core").Page} */ (await open());
  /** @type {string[]} */
  const problems = [];
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  page.on("pageerror", (error) => problems.push(String(error)));
  try {
    await page.goto(site.base + "/");
    const shown = () => page.evaluate(() => document.querySelector("p")?.textContent ?? "");
    for (let i = 0; i < 300 && !(await shown()); i++) await new Promise((resolve) => setTimeout(resolve, 100));
    // The engine's, and one for each of its threads but its own: pages are served isolated.
    return { text: await shown(), problems, workers: page.workers().length };
  } finally {
    await page.close();
    site.close();
  }
}

const THREADS = Math.min(availableParallelism(), 8);
const ANSWER = /^local: I am Kinglet, a small language model/;

for (const name of ["vite", "webpack", "esbuild"]) {
  test(`${name} builds an app that answers`, async () => {
    const folder = install(name);
    run("npm", ["run", "--silent", "build"], folder);
    if (name !== "vite") cpSync(join(folder, "index.html"), join(folder, "dist/index.html"));
    const { text, problems, workers } = await says(join(folder, "dist"));
    assert.match(text, ANSWER, problems.join("\n"));
    assert.equal(workers, THREADS);
  });
}

for (const [builder, script] of [["Turbopack", "build"], ["webpack", "build:webpack"]]) {
  test(`next.js with ${builder} renders a page on the server that answers in the browser`, async () => {
    const folder = install("next");
    run("npm", ["run", "--silent", script], folder);
    const { text, problems, workers } = await says(join(folder, "out"), "'unsafe-inline'");
    assert.match(text, ANSWER, problems.join("\n"));
    assert.equal(workers, THREADS);
  });
}

test("a folder without a bundler answers, in Chromium, in Firefox and in WebKit", async () => {
  const folder = install("static");
  const inChromium = await says(folder, "'nonce-static'");
  assert.match(inChromium.text, ANSWER, inChromium.problems.join("\n"));
  assert.equal(inChromium.workers, THREADS);
  const firefox = await launchFirefox();
  try {
    const inFirefox = await says(folder, "'nonce-static'", async () => /** @type {any} */ (await firefox.newPage()));
    assert.match(inFirefox.text, ANSWER, inFirefox.problems.join("\n"));
  } finally {
    await firefox.close();
  }
  const webkit = await launchWebKit();
  const site = await serve({ "/": `${folder}/` }, (_, response) => void response.setHeader("Content-Security-Policy", POLICY.replace("SCRIPTS", "'nonce-static'")));
  try {
    await webkit.goto(site.base + "/");
    const shown = () => webkit.evaluate('document.querySelector("p").textContent');
    for (let i = 0; i < 300 && !(await shown()); i++) await new Promise((resolve) => setTimeout(resolve, 100));
    assert.match(await shown(), ANSWER, webkit.version);
  } finally {
    await webkit.close();
    site.close();
  }
});

test("Node.js imports all of it for a server's rendering, and nothing is touched", () => {
  const said = run(process.execPath, ["main.js"], install("node"));
  const [main, router] = said.split("\n");
  assert.match(main, /\bcreateEngine\b/);
  assert.match(router, /\bcreateRouter\b/);
  assert.match(said, /createEngine: BAD_REQUEST there is no Worker here/);
});

test("publint finds nothing, and what is packed twice is the same", () => {
  const packed = join(ROOT, "pkg", /** @type {string} */ (tarball));
  const { stdout, status } = spawnSync(process.execPath, [join(ROOT, "pkg/node_modules/publint/src/cli.js"), packed, "--strict"], { encoding: "utf8" });
  assert.equal(status, 0, stdout);
  const again = mkdtempSync(join(tmpdir(), "kinglet-pack-"));
  run("npm", ["pack", "--ignore-scripts", "--loglevel=error", "--pack-destination", again], join(ROOT, "pkg"));
  assert.ok(readFileSync(join(again, /** @type {string} */ (tarball))).equals(readFileSync(packed)), "npm pack is not reproducible");
  rmSync(again, { recursive: true });
});
