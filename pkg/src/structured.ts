// What a request says about the form of its answer: `response_format` and `tools`, checked, as the grammar's binary takes them.

import { badRequest } from "./errors.js";
import type { ChatRequest, CompletionRequest, ResponseFormat } from "./openai.js";

/** `Spec` of src/grammar/spec.rs; the worker adds the model's own format of calls. */
export type Form = (
  | { type: "json_object" }
  | { type: "json_schema"; schema: unknown }
  | { type: "regex"; regex: string }
  | { type: "grammar"; grammar: string }
  | { type: "tools"; tools: unknown[]; choice: "auto" | "required" | { function: string }; parallel: boolean }
) & { close_within_budget?: boolean };

export interface Structure {
  /** What the chat template is given. */
  tools?: unknown[];
  form?: Form;
}

const NAME = /^[\w.-]{1,64}$/;
const isObject = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null && !Array.isArray(value);

export function checkStructure(body: ChatRequest | CompletionRequest): Structure {
  const format = checkFormat(body.response_format);
  const calls = checkTools(body);
  if (format && calls) throw badRequest("response_format", 'does not go with tools; set tool_choice: "none" for this answer');
  const form = format ?? calls?.form;
  if (form && body.stop !== undefined && body.stop !== null) throw badRequest("stop", "does not go with response_format or tools: it would cut their form off");
  return { tools: calls?.tools, form };
}

function checkFormat(format: unknown): Form | undefined {
  if (format === undefined || format === null) return undefined;
  if (!isObject(format)) throw badRequest("response_format", "must be an object with a type");
  const { type, close_within_budget: close, json_schema, regex, syntax, grammar } = format as ResponseFormat & Record<string, unknown>;
  if (close !== undefined && typeof close !== "boolean") throw badRequest("response_format.close_within_budget", "must be true or false");
  const end = close ? { close_within_budget: true } : {};
  switch (type as string) {
    case "text":
      return undefined;
    case "json_object":
      return { type: "json_object", ...end };
    case "json_schema": {
      if (!isObject(json_schema) || !isObject(json_schema.schema)) throw badRequest("response_format.json_schema", "must be { name, schema }, the schema an object");
      return { type: "json_schema", schema: json_schema.schema, ...end };
    }
    case "regex":
      if (typeof regex !== "string" || regex === "") throw badRequest("response_format.regex", "must be a regular expression, as a string");
      return { type: "regex", regex, ...end };
    case "grammar":
      if (syntax !== "lark") throw badRequest("response_format.syntax", 'must be "lark"');
      if (typeof grammar !== "string" || grammar === "") throw badRequest("response_format.grammar", "must be a grammar, as a string");
      return { type: "grammar", grammar, ...end };
    default:
      throw badRequest("response_format.type", 'must be "text", "json_object", "json_schema", "regex" or "grammar"');
  }
}

function checkTools({ tools, tool_choice: choice, parallel_tool_calls: parallel, messages }: Record<string, unknown>): Required<Structure> | undefined {
  if (parallel !== undefined && parallel !== null && typeof parallel !== "boolean") throw badRequest("parallel_tool_calls", "must be true or false");
  const wanted = checkChoice(choice);
  if (tools === undefined || tools === null || (Array.isArray(tools) && tools.length === 0)) {
    if (wanted === "required" || typeof wanted === "object") throw badRequest("tool_choice", "needs tools");
    return undefined;
  }
  if (!Array.isArray(tools)) throw badRequest("tools", "must be a list");
  if (messages === undefined) throw badRequest("tools", "go with chat.completions.create, not with a raw prompt");
  const names = tools.map((tool, i) => checkTool(tool, `tools[${i}]`));
  const twice = names.find((name, i) => names.indexOf(name) !== i);
  if (twice !== undefined) throw badRequest("tools", `has two of the name "${twice}"`);
  if (typeof wanted === "object" && !names.includes(wanted.function)) throw badRequest("tool_choice", `names "${wanted.function}", which is not among the tools: ${names.join(", ")}`);
  if (wanted === "none") return undefined;
  return { tools, form: { type: "tools", tools, choice: wanted, parallel: parallel !== false } };
}

function checkChoice(choice: unknown): "none" | "auto" | "required" | { function: string } {
  if (choice === undefined || choice === null) return "auto";
  if (choice === "none" || choice === "auto" || choice === "required") return choice;
  const name = isObject(choice) && choice.type === "function" && isObject(choice.function) ? choice.function.name : undefined;
  if (typeof name !== "string") throw badRequest("tool_choice", 'must be "none", "auto", "required" or { type: "function", function: { name } }');
  return { function: name };
}

function checkTool(tool: unknown, at: string): string {
  if (!isObject(tool) || tool.type !== "function" || !isObject(tool.function)) throw badRequest(at, 'must be { type: "function", function: { name, description, parameters } }');
  const { name, parameters } = tool.function;
  if (typeof name !== "string" || !NAME.test(name)) throw badRequest(`${at}.function.name`, "must be 1 to 64 letters, digits, dots, dashes or underscores");
  if (parameters !== undefined && parameters !== null && !isObject(parameters)) throw badRequest(`${at}.function.parameters`, "must be a JSON schema, an object");
  return name;
}
