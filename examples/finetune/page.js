// Without a bundler, from the repository's root: cargo xtask pack, then any static server.
import { createEngine } from "../../pkg/dist/index.js";

const $ = (id) => document.getElementById(id);
let adapter;

const engine = await createEngine({
  onProgress: ({ phase, loaded, total }) => ($("status").textContent = `${phase}: ${loaded} of ${total ?? "?"}`),
}).catch(report);
if (engine) await load({ weights: "adapter/adapter_model.safetensors", config: "adapter/adapter_config.json" });

/** The model stays; only the adapter changes. */
async function load(source) {
  busy(true);
  try {
    const next = await engine.loadAdapter(source);
    if (adapter !== undefined) await engine.unloadAdapter(adapter);
    adapter = next;
    $("status").textContent = `Ready, on the ${engine.info.backend === "webgpu" ? "GPU" : "CPU"}.`;
  } catch (error) {
    report(error);
  }
  busy(false);
}

$("files").addEventListener("change", async ({ target }) => {
  const named = (ending) => [...target.files].find((file) => file.name.endsWith(ending));
  const weights = named(".safetensors");
  await load(weights ? { weights, config: named(".json") } : named(".gguf"));
});

$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  const question = $("question").value.trim();
  if (question === "") return;
  const answers = document.createElement("dl");
  $("log").prepend(answers);
  row(answers, "You").textContent = question;
  busy(true);
  await answer(question, [], row(answers, "Model"));
  if (adapter !== undefined) await answer(question, [{ id: adapter, scale: 1 }], row(answers, "With adapter"));
  busy(false);
});

async function answer(question, adapters, place) {
  place.ariaBusy = "true";
  try {
    const messages = [{ role: "user", content: question }];
    const stream = await engine.chat.completions.create({ messages, adapters, temperature: 0, max_tokens: 60, stream: true });
    for await (const chunk of stream) place.textContent += chunk.choices[0]?.delta?.content ?? "";
  } catch (error) {
    report(error);
  }
  place.ariaBusy = "false";
}

function row(list, who) {
  const [term, text] = ["dt", "dd"].map((tag) => list.appendChild(document.createElement(tag)));
  term.textContent = who;
  return text;
}

function busy(is) {
  $("send").disabled = $("files").disabled = is;
}

function report(error) {
  $("status").textContent = `${error.code ?? "Error"}: ${error.message}`;
}
