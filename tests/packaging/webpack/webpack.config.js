import path from "node:path";

export default { entry: "./main.js", output: { path: path.resolve("dist"), clean: true }, performance: { hints: false } };
