// The front door of `kinglet/router`. Importing it touches nothing of the browser.

export { createRouter } from "./router.js";
export { KingletError, type ErrorCode } from "../errors.js";
export type * from "./types.js";
