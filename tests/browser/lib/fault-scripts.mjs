// The 33 faults of a cloud over real sockets: what a server does with one request, as a list of steps. The same list, in
// virtual time, is tests/router_machine/scripts.rs.

/**
 * @typedef {object} Step milliseconds after the step before, then one of the others
 * @property {number} after
 * @property {{ status: number, type?: string, retryAfter?: string }} [head]
 * @property {Buffer} [bytes]
 * @property {"whole" | "cut" | "reset"} [end] a complete body; a connection closed, or reset, in the middle
 *
 * @typedef {object} Script
 * @property {Step[]} steps
 * @property {boolean} billed whether the tokens of TOKENS are charged for
 * @property {"none" | "preflight only"} [cors] what is missing of CORS; without it nothing is
 *
 * @typedef {"answers" | "again" | "local"} Heals what comes of a fault that is gone at the second attempt: no fault, the second
 *   attempt answers, or the draft is taken at once
 */

/** @type {[name: string, heals: Heals][]} */
export const FAULTS = [
  ["refused", "again"],
  ["reset before headers", "again"],
  ["slow headers", "again"],
  ["400", "local"],
  ["401 then ok", "again"],
  ["402", "local"],
  ["404", "local"],
  ["408", "again"],
  ["413", "local"],
  ["429 with seconds", "again"],
  ["429 with a date", "again"],
  ["429 absurd", "local"],
  ["500", "again"],
  ["503 storm", "again"],
  ["529", "again"],
  ["HTML 200", "local"],
  ["JSON 200", "answers"],
  ["no content type", "answers"],
  ["first event stalls", "again"],
  ["comments only", "again"],
  ["cut inside a token", "again"],
  ["cut inside a character", "again"],
  ["end without [DONE]", "answers"],
  ["error event mid-stream", "local"],
  ["one malformed JSON", "answers"],
  ["three malformed JSON", "local"],
  ["bytes one by one", "answers"],
  ["a 2 MB event", "answers"],
  ["duplicated events", "answers"],
  ["wrong finish", "again"],
  ["usage missing", "answers"],
  ["trickle after [DONE]", "answers"],
  ["CORS refusal", "again"],
];

/** What every answer costs. */
export const TOKENS = { input: 14, output: 9 };

/** In a path: "429-with-a-date". */
export const slug = (/** @type {string} */ name) => name.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "");

const LARGE = "large ".repeat(350_000);
/** The text that a fault lets through where it is none. */
export const expected = (/** @type {string} */ name, /** @type {string} */ text) => (name === "a 2 MB event" ? LARGE + text : text);

/** mulberry32: whole numbers from 0 to below n. */
export function randomOf(/** @type {number} */ seed) {
  let state = Math.imul(seed ^ (seed >>> 16), 0x85ebca6b);
  state = Math.imul(state ^ (state >>> 13), 0xc2b2ae35);
  return (/** @type {number} */ n) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % n;
  };
}
/** @typedef {ReturnType<typeof randomOf>} Random */

const event = (/** @type {unknown} */ value) => `data: ${JSON.stringify(value)}\n\n`;
export const delta = (/** @type {string} */ content) => event({ id: "c", object: "chat.completion.chunk", choices: [{ index: 0, delta: { content }, finish_reason: null }] });
const finish = (/** @type {string} */ reason) => event({ choices: [{ index: 0, delta: {}, finish_reason: reason }] });
const USAGE = { prompt_tokens: TOKENS.input, completion_tokens: TOKENS.output, total_tokens: TOKENS.input + TOKENS.output };

/** Pieces of a healthy stream: role, texts, finish, usage, end. */
function healthy(/** @type {string} */ text) {
  const role = event({ choices: [{ index: 0, delta: { role: "assistant", content: "" } }] });
  return [role, ...(text.match(/\S*\s?/gu) ?? []).filter(Boolean).map(delta), finish("stop"), event({ choices: [], usage: USAGE }), "data: [DONE]\n\n"];
}

/**
 * @param {string} name one of FAULTS but "refused", which has no server; or "none", "echo" (which says what it was asked), "endless"
 * @param {object} how
 * @param {Random} how.random
 * @param {string} how.text the answer, of which some faults let a part through
 * @param {number} how.slowMs longer than the client waits
 * @param {number} [how.pauseMs] the longest pause between two pieces
 * @returns {Script}
 */
export function scriptOf(name, { random, text, slowMs, pauseMs = 5 }) {
  /** The bytes in random pieces, at random moments. */
  const pieces = (/** @type {string | Buffer} */ body, largest = 90) => {
    const bytes = Buffer.from(body);
    const steps = [];
    for (let at = 0; at < bytes.length; ) {
      const size = 1 + random(largest);
      steps.push({ after: random(largest === 1 ? 40 : 4) === 0 ? random(pauseMs) : 0, bytes: bytes.subarray(at, at + size) });
      at += size;
    }
    return steps;
  };
  const EVENTS = "text/event-stream; charset=utf-8";
  /** @type {(body: string | Buffer, how?: { type?: string | undefined, end?: Step["end"], billed?: boolean, largest?: number, before?: number }) => Script} */
  const streamed = (body, { end = "whole", billed = true, largest, before = 0, ...head } = {}) => {
    const type = "type" in head ? head.type : EVENTS;
    return { steps: [{ after: random(20), head: { status: 200, type } }, { after: before, bytes: Buffer.alloc(0) }, ...pieces(body, largest), { after: random(5), end }], billed };
  };
  /** @type {(status: number, retryAfter?: string) => Script} A status with a page that nobody reads. */
  const status = (status, retryAfter) => ({
    steps: [
      { after: random(20), head: { status, type: "application/json", retryAfter } },
      { after: 0, bytes: Buffer.from('{"error":{}}') },
      { after: 0, end: "whole" },
    ],
    billed: false,
  });
  /** @template T @param {...T} choices @returns {T} */
  const oneOf = (...choices) => choices[random(choices.length)];
  const broken = () => oneOf(/** @type {const} */ ("whole"), /** @type {const} */ ("cut"), /** @type {const} */ ("reset"));

  const all = healthy(text);
  const whole = all.join("");
  // Within the texts: after the role, before the finish.
  const middle = all.slice(0, 1 + ((all.length - 4) >> 1)).join("").length;
  const within = (/** @type {string} */ inserted) => whole.slice(0, middle) + inserted + whole.slice(middle);

  switch (name) {
    case "none": case "echo": return streamed(whole);
    case "endless": {
      const steps = Array.from({ length: 2_000 }, (_, i) => ({ after: 20, bytes: Buffer.from(delta(`word ${i} `)) }));
      return { steps: [{ after: 0, head: { status: 200, type: EVENTS } }, ...steps], billed: true };
    }
    case "reset before headers": return { steps: [{ after: random(100), end: "reset" }], billed: true };
    case "CORS refusal": return { ...streamed(whole), ...oneOf({ cors: /** @type {const} */ ("none"), billed: false }, { cors: /** @type {const} */ ("preflight only") }) };
    case "slow headers": {
      const script = streamed(whole);
      script.steps[0].after += slowMs;
      return script;
    }
    case "400": case "402": case "404": case "408": case "413": case "500": case "529": return status(Number(name));
    case "401 then ok": return status(401);
    case "429 with seconds": return status(429, oneOf("0", "1"));
    case "429 with a date": return status(429, new Date(Date.now() + 1_000).toUTCString());
    case "429 absurd": return status(429, oneOf("86400", "Fri, 31 Dec 2100 23:59:59 GMT", "99999999999999999999"));
    case "503 storm": return status(503, oneOf(undefined, "1"));
    case "HTML 200": {
      const page = "\n<!DOCTYPE html><html><body>Please sign in to the network: data: {}</body></html>";
      return streamed(page, { type: oneOf("text/html; charset=utf-8", undefined, "text/event-stream"), billed: false, largest: 9 });
    }
    case "JSON 200": {
      const body = { choices: [{ index: 0, message: { role: "assistant", content: text }, finish_reason: "stop" }], usage: USAGE };
      return streamed(JSON.stringify(body), { type: oneOf("application/json", "text/event-stream", undefined), largest: 50 });
    }
    case "no content type": return streamed(whole, { type: undefined });
    case "first event stalls": return streamed(whole, { before: slowMs });
    case "comments only": {
      const pings = Array.from({ length: 200 }, () => ({ after: 50, bytes: Buffer.from(": keep-alive\n\n") }));
      return { steps: [{ after: 0, head: { status: 200, type: EVENTS } }, ...pings, { after: 0, end: "whole" }], billed: true };
    }
    case "cut inside a token": return streamed(whole.slice(0, middle - 8), { end: broken() });
    case "cut inside a character": {
      const bytes = Buffer.from(whole);
      return streamed(bytes.subarray(0, bytes.findIndex((byte) => byte >= 0x80) + 1), { end: broken() });
    }
    case "end without [DONE]": return streamed(all.slice(0, -1).join(""));
    case "error event mid-stream": return streamed(within(oneOf(
      'data: {"error":{"message":"The server had an error","type":"server_error","code":null}}\n\n',
      'event: error\ndata: {"code":502,"message":"upstream"}\n\n',
      "event: error\ndata: upstream is gone\n\n",
      'data: {"error":{"message":"slow down","code":"rate_limit_exceeded"},"choices":[]}\n\n',
    )));
    case "one malformed JSON": return streamed(within('data: {"choices":[{"delta\n\n'));
    case "three malformed JSON": return streamed(within('data: {"choices"\n\ndata: oops\n\ndata: [1,\n\n'));
    case "bytes one by one": return streamed(whole, { largest: 1 });
    case "a 2 MB event": return streamed([all[0], delta(LARGE), ...all.slice(1)].join(""), { largest: 1 << 18 });
    case "duplicated events": {
      // Numbered, as streams are where something can repeat them; the end repeats without numbers too.
      const numbered = all.map((piece, i) => `id: ${i}\n${piece}`).map((piece) => piece.repeat(1 + random(2)));
      return streamed([...numbered, ...all.slice(-3)].join(""));
    }
    case "wrong finish": return streamed([...all.slice(0, -3), finish("banana"), ...all.slice(-2)].join(""));
    case "usage missing": return streamed([...all.slice(0, -2), all.at(-1)].join(""));
    case "trickle after [DONE]": {
      const script = streamed(whole);
      const more = Array.from({ length: 100 }, () => ({ after: 100, bytes: Buffer.from(delta("more ")) }));
      script.steps.splice(-1, 0, ...more);
      return script;
    }
    default: throw new Error(`no script ${name}`);
  }
}
