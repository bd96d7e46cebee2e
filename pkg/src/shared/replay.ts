// An answer that another tab's engine begins anew: what was told already is left out.

import { KingletError } from "../errors.js";
import type { ChatCompletionChunk, CompletionChunk } from "../openai.js";
import type { Piece } from "./protocol.js";

type Field = "content" | "reasoning_content" | "text";

/** Of one choice. */
interface Told {
  /** So far, by field. */
  told: Record<Field, string>;
  /** Of it, what the present run has said once more. */
  again: Record<Field, number>;
  opened: boolean;
  ended: boolean;
}

export class Replay {
  readonly #choices = new Map<number, Told>();
  #fresh = true;

  /** Another run begins. */
  restart(): void {
    for (const choice of this.#choices.values()) choice.again = { content: 0, reasoning_content: 0, text: 0 };
    this.#fresh = false;
  }

  /** Of the choice that was told last. */
  get text(): string {
    const { content, text } = [...this.#choices.values()].at(-1)?.told ?? {};
    return content || text || "";
  }

  #of(index: number): Told {
    const known = this.#choices.get(index) ?? { told: { content: "", reasoning_content: "", text: "" }, again: { content: 0, reasoning_content: 0, text: 0 }, opened: false, ended: false };
    this.#choices.set(index, known);
    return known;
  }

  /** What of a piece is new; nothing where all of it was told. Throws where the new run says something else. */
  take<P extends Piece>(piece: P): P | undefined {
    const choice = piece.choices[0];
    if (!choice) return piece;
    const of = this.#of(choice.index);
    const part = ("delta" in choice ? choice.delta : choice) as Partial<Record<Field | "role", string>>;
    const opening = part.role !== undefined;
    if (opening && of.opened) return undefined;
    of.opened ||= opening;
    const ending = choice.finish_reason !== null;
    if (ending && of.ended) return undefined;
    of.ended ||= ending;
    const rest: Partial<Record<Field, string>> = {};
    for (const field of ["content", "reasoning_content", "text"] as const) {
      const said = part[field];
      if (said === undefined) continue;
      const known = of.told[field].slice(of.again[field], of.again[field] + said.length);
      if (!said.startsWith(known)) {
        throw new KingletError("ENGINE_CRASHED", "the tab with the engine was closed, and another answers differently; ask again");
      }
      of.again[field] += said.length;
      rest[field] = said.slice(known.length);
      of.told[field] += rest[field];
    }
    if (this.#fresh) return piece;
    const news = Object.values(rest).some((text) => text !== "");
    if (!news && !ending && !opening) return undefined;
    const changed = "delta" in choice ? { ...choice, delta: { ...choice.delta, ...rest } } : { ...choice, ...rest };
    return { ...piece, choices: [changed] } as ChatCompletionChunk & CompletionChunk & P;
  }
}
