// JSON schemas by the hundred: nested objects, arrays and tuples, numbers within limits, strings of patterns, lengths and formats,
// enums, alternatives, references and recursion. The same seed, the same schemas.

import { randomOf } from "./fault-scripts.mjs";

/** @typedef {Record<string, any>} Schema */

const WORDS = ["name", "age", "bird", "colour", "size", "nest", "song", "wing", "egg", "tree", "day", "count", "note", "kind", "where", "unit"];
const VALUES = ["red", "green", "blue", "one two", "\u00fcber", "a\"b", 7, -1.5, true, null];
const PATTERNS = ["^[A-Z][a-z]{1,8}$", "^\\d{3}-\\d{2}$", "^(yes|no|maybe)$", "[0-9]", "^a+b?$", "^[\\w.]{2,6}@[a-z]{2,4}\\.(com|org)$", "^x", "^[^\"\\\\ ]{3}$"];
// Not email: ajv wants a dot in its domain, RFC 5321 does not.
const FORMATS = ["date", "time", "uuid", "ipv4"];

/** @param {number} seed @returns {Schema} */
export function schemaOf(seed) {
  const random = randomOf(seed);
  const below = (/** @type {number} */ n) => random(n);
  const maybe = (/** @type {number} */ percent) => random(100) < percent;
  const oneOf = (/** @type {any[]} */ list) => list[random(list.length)];
  const some = (/** @type {any[]} */ list, /** @type {number} */ n) => {
    const left = [...list];
    return Array.from({ length: Math.min(n, left.length) }, () => left.splice(random(left.length), 1)[0]);
  };
  /** @type {Schema} */
  const definitions = {};

  const number = () => {
    /** @type {Schema} */
    const schema = { type: oneOf(["integer", "number"]) };
    const low = below(2000) - 1000;
    if (maybe(60)) schema[oneOf(["minimum", "exclusiveMinimum"])] = low;
    if (maybe(60)) schema[oneOf(["maximum", "exclusiveMaximum"])] = low + 2 + below(500);
    if (schema.type === "integer" && maybe(15)) return { type: "integer", multipleOf: 2 + below(9), minimum: 0, maximum: 1000 };
    return schema;
  };
  const string = () => {
    if (maybe(30)) return { type: "string", pattern: oneOf(PATTERNS) };
    if (maybe(20)) return { type: "string", format: oneOf(FORMATS) };
    const minLength = below(6);
    return { type: "string", ...(maybe(50) && { minLength }), ...(maybe(70) && { maxLength: minLength + below(20) }) };
  };
  const array = (/** @type {number} */ depth) => {
    if (maybe(20)) return { type: "array", prefixItems: [value(depth - 1), value(0)], items: false, minItems: 2 };
    const minItems = below(3);
    return { type: "array", items: value(depth - 1), ...(maybe(60) && { minItems }), ...(maybe(70) && { maxItems: minItems + below(3) }) };
  };
  const object = (/** @type {number} */ depth) => {
    const names = some(WORDS, 1 + below(4));
    const properties = Object.fromEntries(names.map((name) => [name, value(depth - 1)]));
    const required = names.filter(() => maybe(70));
    /** @type {Schema} */
    const schema = { type: "object", properties, ...(required.length > 0 && { required }) };
    if (maybe(70)) schema.additionalProperties = false;
    else if (maybe(50)) schema.additionalProperties = value(0);
    return schema;
  };
  /** Alternatives that no value fits twice: by type, or by a field that says which one it is. */
  const apart = (/** @type {number} */ depth) => {
    if (maybe(50) || depth < 1) return { oneOf: [string(), number(), { type: "boolean" }] };
    return { oneOf: ["x", "y"].map((kind) => ({ type: "object", properties: { kind: { const: kind }, [oneOf(WORDS)]: value(depth - 1) }, required: ["kind"], additionalProperties: false })) };
  };
  const reference = (/** @type {number} */ depth) => {
    const name = `part${Object.keys(definitions).length}`;
    definitions[name] = {}; // its name is taken before others are made
    if (maybe(30)) definitions[name] = { type: "object", properties: { [oneOf(WORDS)]: value(0), more: { type: "array", items: { $ref: `#/$defs/${name}` }, maxItems: 2 } }, additionalProperties: false };
    else definitions[name] = value(depth - 1);
    return { $ref: `#/$defs/${name}` };
  };
  /** @param {number} depth @returns {Schema} */
  const value = (depth) => {
    const leaves = [number, number, string, string, () => ({ enum: some(VALUES, 1 + below(5)) }), () => ({ const: oneOf(VALUES) }), () => ({ type: "boolean" }), () => ({ type: [oneOf(["string", "integer"]), "null"] })];
    if (depth < 1) return oneOf(leaves)();
    const inner = [object, object, array, array, apart, reference, (/** @type {number} */ d) => ({ anyOf: [value(d - 1), value(d - 1)] }), (/** @type {number} */ d) => ({ allOf: [object(d)] })];
    return maybe(45) ? oneOf(leaves)() : oneOf(inner)(depth);
  };
  const root = maybe(85) ? object(3) : array(2);
  return Object.keys(definitions).length > 0 ? { ...root, $defs: definitions } : root;
}
