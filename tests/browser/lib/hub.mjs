// Answers of a model hub on good and on bad days, for the routes of lib/package.mjs.

/** @typedef {import("./package.mjs").Route} Route */

/**
 * A file with ranges and an ETag.
 * @param {Buffer} bytes
 * @param {object} [how]
 * @param {string} [how.etag]
 * @param {boolean} [how.ranges] false: every answer is whole
 * @param {boolean} [how.chunked] without a length
 * @param {string} [how.type]
 * @param {(nth: number) => number | undefined} [how.cutAfter] bytes of the nth answer after which the connection breaks
 * @returns {Route}
 */
export function file(bytes, { etag = '"v1"', ranges = true, chunked = false, type = "application/octet-stream", cutAfter = () => undefined } = {}) {
  return (request, response, nth) => {
    const wanted = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? "");
    const same = request.headers["if-range"] === undefined || request.headers["if-range"] === etag;
    const partial = ranges && wanted && same;
    const start = partial ? Number(wanted[1]) : 0;
    const end = partial && wanted[2] ? Math.min(Number(wanted[2]) + 1, bytes.length) : bytes.length;
    if (start >= bytes.length) return void response.writeHead(416).end();
    response.writeHead(partial ? 206 : 200, {
      ETag: etag,
      "Content-Type": type,
      ...(chunked ? {} : { "Content-Length": end - start }),
      ...(partial ? { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}` } : {}),
    });
    const cut = cutAfter(nth);
    if (cut === undefined) response.end(bytes.subarray(start, end));
    else response.write(bytes.subarray(start, Math.min(start + cut, end)), () => setTimeout(() => response.destroy(), 150)); // time to arrive: an error drops what was not read
  };
}

/**
 * @param {number} status
 * @param {Record<string, string>} [headers]
 * @returns {Route}
 */
export const status = (status, headers = {}) => (_, response) => void response.writeHead(status, headers).end("no");

/** @type {(...answers: Route[]) => Route} One after the other, the last one for good. */
export const inTurn = (...answers) => (request, response, nth) => answers[Math.min(nth, answers.length - 1)](request, response, nth);

/**
 * A file that comes over each connection at its own rate.
 * @param {Buffer} bytes
 * @param {number} bytesPerSecond
 * @param {{ etag?: string | null, ranges?: boolean, size?: boolean }} [how] `etag: null`: nothing tells it from another one; `size: false`: nobody knows where it ends
 */
export function throttled(bytes, bytesPerSecond, { etag = '"v1"', ranges = true, size = true } = {}) {
  const seen = { open: 0, most: 0, sent: 0, ranges: /** @type {(string | undefined)[]} */ ([]) };
  const MS = 20;
  /** @type {Route} */
  const route = (request, response) => {
    const { range } = request.headers;
    seen.ranges.push(range);
    const wanted = ranges && /^bytes=(\d+)-(\d*)$/.exec(range ?? "");
    const start = wanted ? Number(wanted[1]) : 0;
    const end = wanted && wanted[2] ? Math.min(Number(wanted[2]) + 1, bytes.length) : bytes.length;
    response.writeHead(wanted ? 206 : 200, {
      ...(etag !== null && { ETag: etag }),
      ...(size && { "Content-Length": end - start }),
      "Content-Type": "application/octet-stream",
      ...(wanted && { "Content-Range": `bytes ${start}-${end - 1}/${bytes.length}` }),
    });
    seen.most = Math.max(seen.most, ++seen.open);
    let at = start;
    const timer = setInterval(() => {
      if (response.writableNeedDrain) return;
      const until = Math.min(at + Math.ceil((bytesPerSecond * MS) / 1000), end);
      response.write(bytes.subarray(at, until));
      seen.sent += until - at;
      at = until;
      if (at < end) return;
      clearInterval(timer);
      response.end();
    }, MS);
    response.on("close", () => {
      clearInterval(timer);
      seen.open--;
    });
  };
  return { route, seen };
}
