// The package's front door. Importing it touches nothing of the browser.

export { createEngine } from "./engine.js";
export { KingletError, type ErrorCode } from "./errors.js";
export type * from "./types.js";
