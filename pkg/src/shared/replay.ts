// An answer that another tab's engine begins anew: what was told already is left out.

import { KingletError } from "../errors.js";
import type { ChatCompletionChunk, CompletionChunk } from "../openai.js";
import type { Piece } from "./protocol.js";

type Field = "content" | "reasoning_content" | "text";

export class Replay {
  /** Told so far, by field. */
  #told: Record<Field, string> = { content: "", reasoning_content: "", text: "" };
  /** Of it, what the present run has said once more. */
  #again: Record<Field, number> = { content: 0, reasoning_content: 0, text: 0 };
  #opened = false;
  #fresh = true;

  /** Another run begins. */
  restart(): void {
    this.#again = { content: 0, reasoning_content: 0, text: 0 };
    this.#fresh = false;
  }

  get text(): string {
    return this.#told.content || this.#told.text;
  }

  /** What of a piece is new; nothing where all of it was told. Throws where the new run says something else. */
  take<P extends Piece>(piece: P): P | undefined {
    const choice = piece.choices[0];
    if (!choice) return piece;
    const part = ("delta" in choice ? choice.delta : choice) as Partial<Record<Field | "role", string>>;
    const opening = part.role !== undefined;
    if (opening && this.#opened) return undefined;
    this.#opened ||= opening;
    const rest: Partial<Record<Field, string>> = {};
    for (const field of ["content", "reasoning_content", "text"] as const) {
      const said = part[field];
      if (said === undefined) continue;
      const known = this.#told[field].slice(this.#again[field], this.#again[field] + said.length);
      if (!said.startsWith(known)) {
        throw new KingletError("ENGINE_CRASHED", "the tab with the engine was closed, and another answers differently; ask again");
      }
      this.#again[field] += said.length;
      rest[field] = said.slice(known.length);
      this.#told[field] += rest[field];
    }
    if (this.#fresh) return piece;
    const news = Object.values(rest).some((text) => text !== "");
    if (!news && choice.finish_reason === null) return undefined;
    const changed = "delta" in choice ? { ...choice, delta: { ...choice.delta, ...rest } } : { ...choice, ...rest };
    return { ...piece, choices: [changed] } as ChatCompletionChunk & CompletionChunk & P;
  }
}
