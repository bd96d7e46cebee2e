// WebKit by its own driver (Debian's webkit2gtk-driver) on a display that nobody sees: as much as a test needs of WebDriver.
import { spawn } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { createServer } from "node:net";

const LIBRARIES = "/usr/lib/x86_64-linux-gnu";

/** The browser that comes with the driver. */
function miniBrowser() {
  const folder = readdirSync(LIBRARIES).find((name) => name.startsWith("webkit2gtk-4") && existsSync(`${LIBRARIES}/${name}/MiniBrowser`));
  if (!folder) throw new Error("no WebKit: run `cargo xtask setup`, which installs webkit2gtk-driver and xvfb");
  return `${LIBRARIES}/${folder}/MiniBrowser`;
}

const freePort = () => new Promise((resolve) => {
  const server = createServer().listen(0, "127.0.0.1", () => {
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    server.close(() => resolve(port));
  });
});

export async function launchWebKit() {
  const binary = miniBrowser();
  const port = await freePort();
  const driver = spawn("xvfb-run", ["--auto-servernum", "WebKitWebDriver", `--port=${port}`], { stdio: "ignore", detached: true });
  const base = `http://127.0.0.1:${port}`;
  const call = async (/** @type {string} */ method, /** @type {string} */ path, body = /** @type {object | undefined} */ (undefined)) => {
    const response = await fetch(base + path, { method, body: body && JSON.stringify(body) });
    const { value } = /** @type {any} */ (await response.json());
    if (!response.ok) throw new Error(`WebDriver, ${method} ${path}: ${value.error}: ${value.message}`);
    return value;
  };
  const stop = () => process.kill(-(/** @type {number} */ (driver.pid)));
  for (let i = 0; ; i++) {
    try {
      await call("GET", "/status");
      break;
    } catch (e) {
      if (i === 100) throw new Error(`WebKitWebDriver does not start: ${e}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const capabilities = { alwaysMatch: { "webkitgtk:browserOptions": { binary, args: ["--automation"] } } };
  const { sessionId, capabilities: has } = await call("POST", "/session", { capabilities });
  const session = `/session/${sessionId}`;
  await call("POST", `${session}/timeouts`, { script: 120_000, pageLoad: 60_000 });
  return {
    version: `${has.browserName} ${has.browserVersion}`,
    goto: (/** @type {string} */ url) => call("POST", `${session}/url`, { url }),
    /** The value of an expression, or of the promise that it is. */
    async evaluate(/** @type {string} */ expression) {
      const script = `const done = arguments[0]; Promise.resolve().then(() => (${expression})).then((value) => done({ value }), (e) => done({ error: String(e) }));`;
      const { value, error } = await call("POST", `${session}/execute/async`, { script, args: [] });
      if (error) throw new Error(error);
      return value;
    },
    async close() {
      await call("DELETE", session).catch(() => {});
      stop();
    },
  };
}
