// One conversation with the model: its messages, and the answer that is on its way.

import type { ChatMessage, Engine, FinishReason, SamplingOptions } from "kinglet";
import { codeOf } from "./models.js";

export interface Listener {
  onText(text: string): void;
  /** Tokens so far, and milliseconds since the first. */
  onPace(tokens: number, ms: number): void;
}

export interface Ending {
  reason: FinishReason | "stopped";
}

export class Chat {
  #messages: ChatMessage[] = [];
  #abort: AbortController | undefined;
  #streaming = false;
  readonly #sampling: () => SamplingOptions;

  /** `sampling` is asked once a question is on its way to the model. */
  constructor(sampling: () => SamplingOptions) {
    this.#sampling = sampling;
  }

  get busy(): boolean {
    return this.#abort !== undefined;
  }

  /** Ends the answer; a question that waits for the model is withdrawn. */
  stop(): void {
    this.#abort?.abort();
  }

  /** Ends the answer, but lets a question wait on for the model. */
  interrupt(): void {
    if (this.#streaming) this.stop();
  }

  /** What was said so far is not sent any more. */
  forget(): void {
    this.#messages = [];
  }

  /** Asks once `engine` is there. What fails before the first piece of text leaves the conversation as it was. */
  async ask(question: string, engine: () => Promise<Engine>, listener: Listener): Promise<Ending> {
    const abort = new AbortController();
    this.#abort = abort;
    let before = this.#messages;
    let text = "";
    let reason: Ending["reason"] = "stop";
    try {
      const loaded = await Promise.race([engine(), rejectWhenAborted(abort.signal)]);
      this.#streaming = true;
      before = this.#messages;
      let first = 0;
      let tokens = 0;
      for await (const chunk of this.#stream(loaded, [...before, { role: "user", content: question }], abort.signal)) {
        if (chunk.tokens > 0) first ||= performance.now();
        tokens += chunk.tokens;
        text += chunk.text;
        reason = chunk.reason ?? reason;
        listener.onText(chunk.text);
        listener.onPace(tokens, performance.now() - first);
      }
    } catch (error) {
      if (codeOf(error) !== "ABORTED" && !abort.signal.aborted) throw error;
      reason = "stopped";
    } finally {
      this.#abort = undefined;
      this.#streaming = false;
      if (text && this.#messages === before) {
        this.#messages = [...before, { role: "user", content: question }, { role: "assistant", content: text }];
      }
    }
    return { reason };
  }

  /**
   * A template that fails is an error to be shown: the model would answer the same words without its form, but badly. A
   * file without one gets a form from the engine.
   */
  async *#stream(engine: Engine, messages: ChatMessage[], signal: AbortSignal): AsyncGenerator<{ text: string; tokens: number; reason: FinishReason | null }> {
    for await (const { choices: [choice] } of await engine.chat.completions.create({ messages, ...this.#sampling(), stream: true }, { signal })) {
      if (choice) yield { text: choice.delta.content ?? "", tokens: choice.token_ids.length, reason: choice.finish_reason };
    }
  }
}

function rejectWhenAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));
}
