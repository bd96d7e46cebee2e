import { answer } from "./app.js";

const engine = { model: "kinglet/dist/default.gguf", worker: "kinglet/dist/worker.js" };
const router = { wasmUrl: "kinglet/wasm/router/kinglet_bg.wasm" };
document.querySelector("p").textContent = await answer(engine, router).catch((e) => `failed: ${e.code} ${e.message}`);
