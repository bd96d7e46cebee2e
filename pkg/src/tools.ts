// Calls of tools in a reply, in OpenAI's shapes, from the pieces the engine tells apart.

import type { ToolCall, ToolCallDelta } from "./openai.js";
import type { CallPiece } from "./protocol.js";

const LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/** Mistral's templates take nine letters and digits and nothing else. */
function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(9)), (byte) => LETTERS[byte % LETTERS.length]).join("");
}

/** Of one answer. */
export class Calls {
  readonly whole: ToolCall[] = [];

  /** The pieces as deltas; the first of a call names it. */
  take(pieces: CallPiece[] = []): ToolCallDelta[] {
    return pieces.map(({ index, name, arguments: text = "" }) => {
      if (name === undefined) {
        const call = this.whole[index];
        if (call) call.function.arguments += text;
        return { index, function: { arguments: text } };
      }
      const call: ToolCall = { id: newId(), type: "function", function: { name, arguments: text } };
      this.whole[index] = call;
      return { index, ...call, function: { ...call.function } };
    });
  }
}
