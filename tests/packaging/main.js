import { answer } from "./app.js";

document.querySelector("p").textContent = await answer().catch((e) => `failed: ${e.code} ${e.message}`);
