// The worker's part of answers in a form: the grammar's binary, loaded by the first request that wants one.

import { compileWasm } from "./device.js";
import { KingletError } from "./errors.js";
import type { Form } from "./structured.js";
import init, { Vocabulary, type Guide as Glue } from "#wasm/grammar";

/** What an engine says of its tokens. */
interface Tokens {
  vocabulary(): Uint8Array;
  end_ids(): Uint32Array;
  tool_format(): unknown;
}

/** What the engine asks for each token: `JsConstraint` of src/api/constraint.rs. */
export class Guide {
  /** What made the binary trap; its answers are worth nothing since. */
  trap: unknown;

  constructor(private readonly glue: Glue) {}

  mask = (left: number) => this.#try(() => this.glue.mask(left));
  forced = () => this.#try(() => this.glue.forced());
  commit = (token: number, left: number) => this.#try(() => this.glue.commit(token, left));

  free(): void {
    if (this.trap === undefined) this.glue.free();
  }

  #try<T>(act: () => T): T {
    try {
      return act();
    } catch (e) {
      if (typeof e === "string") throw { message: e };
      throw (this.trap = e);
    }
  }
}

export class Grammar {
  #vocabulary: Promise<Vocabulary> | undefined;

  constructor(private readonly url: string | undefined) {}

  /** Throws BAD_REQUEST with what is wrong with the form. */
  async guide(form: Form, engine: Tokens): Promise<Guide> {
    this.#vocabulary ??= this.#load(engine);
    let vocabulary: Vocabulary;
    try {
      vocabulary = await this.#vocabulary;
    } catch (e) {
      this.#vocabulary = undefined; // the next request may reach it
      throw e;
    }
    const spec = form.type === "tools" ? { ...form, format: engine.tool_format() } : form;
    return new Guide(plainly(() => vocabulary.guide(JSON.stringify(spec))));
  }

  async #load(engine: Tokens): Promise<Vocabulary> {
    const url = this.url ?? new URL("../wasm/grammar/kinglet_bg.wasm", import.meta.url);
    await init({ module_or_path: compileWasm(url, "grammar's") });
    return plainly(() => new Vocabulary(engine.vocabulary(), engine.end_ids()));
  }
}

/** The crate's errors are strings; anything else is a crash. */
function plainly<T>(act: () => T): T {
  try {
    return act();
  } catch (e) {
    throw typeof e === "string" ? new KingletError("BAD_REQUEST", e) : e;
  }
}
