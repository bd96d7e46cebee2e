// Real OpenAI-compatible servers, as cargo xtask setup installs them: llama.cpp's, and LiteLLM's proxy.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { ROOT } from "./server.mjs";

const SERVERS = join(ROOT, "tests/servers");
const STARTS_MS = 120_000; // the first time, Python compiles all of it

/** @param {string} name of tests/servers/NAME.txt @param {string} program in bin/ @param {string[]} args @param {Record<string, string>} [env] */
function start(name, program, args, env = {}) {
  const path = join(ROOT, "target/servers", name, "bin", program);
  if (!existsSync(path)) throw new Error(`${name} is not installed: run \`cargo xtask setup\``);
  const child = spawn(path, args, { cwd: SERVERS, env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  // Two streams: what a server logs may fall into the middle of a line that it prints.
  let output = "";
  let log = "";
  child.stdout.on("data", (data) => (output = (output + data).slice(-10_000)));
  child.stderr.on("data", (data) => (log = (log + data).slice(-10_000)));
  process.on("exit", () => child.kill());
  return {
    /** Waits until `ready` says something to what was printed. @template T @param {(output: string) => Promise<T | undefined> | T | undefined} ready */
    async until(ready) {
      for (const end = Date.now() + STARTS_MS; Date.now() < end; ) {
        const found = await ready(output);
        if (found !== undefined) return found;
        if (child.exitCode !== null) throw new Error(`${name} ended with ${child.exitCode}:\n${output}\n${log}`);
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      child.kill();
      throw new Error(`${name} did not start:\n${output}\n${log}`);
    },
    close: () => new Promise((resolve) => (child.exitCode === null ? (child.once("exit", resolve), child.kill()) : resolve(undefined))),
  };
}

/** @param {string} model path of a GGUF file @param {number} context tokens @param {string} [key] */
export async function startLlamaCpp(model, context, key) {
  const server = start("llama-cpp", "python", ["llama_cpp.py", model, String(context), ...(key ? [key] : [])]);
  const base = await server.until((output) => /^http:\/\/[\d.:]+$/m.exec(output)?.[0]);
  return { url: `${base.replace("127.0.0.1", "localhost")}/v1/chat/completions`, close: server.close };
}

/** tests/servers/litellm.yaml. @param {Record<string, string>} env what that file takes from the environment */
export async function startLiteLlm(env) {
  const key = `kinglet-${randomBytes(16).toString("hex")}`;
  const port = await freePort();
  const settings = { LITELLM_MASTER_KEY: key, LITELLM_LOCAL_MODEL_COST_MAP: "True", LITELLM_TELEMETRY: "False", ...env };
  const server = start("litellm", "litellm", ["--config", "litellm.yaml", "--host", "127.0.0.1", "--port", String(port)], settings);
  const base = `http://localhost:${port}`;
  await server.until(() => fetch(`${base}/health/liveliness`).then((response) => (response.ok ? true : undefined), () => undefined));
  return { url: `${base}/v1/chat/completions`, key, close: server.close };
}

/** @returns {Promise<number>} */
function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
      server.close(() => resolve(port));
    });
  });
}
