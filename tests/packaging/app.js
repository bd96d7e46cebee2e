// The app of all projects: the embedded model behind a router, so that every file of the package is needed.
import { createEngine } from "kinglet";
import { createRouter } from "kinglet/router";

export async function answer(options = {}, routing = {}) {
  const engine = await createEngine({ backend: "cpu", ...options });
  const router = await createRouter({ local: engine, ...routing });
  const { text, source } = await router.ask({ messages: [{ role: "user", content: "Who are you?" }], temperature: 0 }).answer;
  return `${source}: ${text}`;
}
