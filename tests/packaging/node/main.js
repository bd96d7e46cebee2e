// As a server that renders pages does: everything is imported, nothing is touched.
const before = Object.getOwnPropertyNames(globalThis).sort().join();
const modules = ["kinglet", "kinglet/router", "kinglet/catalog", "kinglet/ai-sdk", "kinglet/prompt-api"];
const exports = await Promise.all(modules.map((name) => import(name)));
if (Object.getOwnPropertyNames(globalThis).sort().join() !== before) throw new Error("importing changed the global object");
console.log(exports.map((module) => Object.keys(module).sort().join(" ")).join("\n"));
const [{ createEngine }] = exports;
await createEngine().catch((e) => console.log(`createEngine: ${e.code ?? e.name} ${e.message}`));
process.exit();
