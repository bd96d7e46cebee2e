// The package's front door. Importing it touches nothing of the browser.

export { createEngine } from "./engine.js";
export { inspect, type Fits, type InspectOptions, type MemoryNeeded, type ModelReport, type RecommendedFile } from "./inspect.js";
export { models, type ImportOptions, type StoredModel } from "./models.js";
export { KingletError, type ErrorCode } from "./errors.js";
export type * from "./types.js";
