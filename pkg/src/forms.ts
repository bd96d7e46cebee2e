// Tools and forms of an answer, in OpenAI's names and shapes; what goes beyond them is marked.

/** A call that the model asks for. */
export interface ToolCall {
  id: string;
  type: "function";
  /** `arguments`: JSON. */
  function: { name: string; arguments: string };
}

/** The first delta of a call has its id and name; the arguments come in pieces. */
export interface ToolCallDelta {
  index: number;
  id?: string;
  type?: "function";
  function: { name?: string; arguments: string };
}

/** A function that the model may ask to have called. */
export interface Tool {
  type: "function";
  /** `parameters`: a JSON schema; the arguments of a call always keep to it. */
  function: { name: string; description?: string; parameters?: Record<string, unknown> | null; strict?: boolean | null };
}

/** Whether, or which of the tools, the model has to call. */
export type ToolChoice = "none" | "auto" | "required" | { type: "function"; function: { name: string } };

/** The last two, and `close_within_budget` (the answer is ended in its form before max_tokens cut it off), go beyond OpenAI. */
export type ResponseFormat = (
  | { type: "text" }
  | { type: "json_object" }
  | { type: "json_schema"; json_schema: { name: string; description?: string; schema?: Record<string, unknown>; strict?: boolean | null } }
  | { type: "regex"; regex: string }
  | { type: "grammar"; syntax: "lark"; grammar: string }
) & { close_within_budget?: boolean };
