// Static files with cross-origin isolation and byte ranges, never cached, and a record of what a page fetched.
import http from 'node:http';
import fs from 'node:fs';
import path from 'node:path';
import zlib from 'node:zlib';

const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.cjs': 'text/javascript', '.wasm': 'application/wasm', '.json': 'application/json' };
const HEADERS = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'cross-origin',
  'Access-Control-Allow-Origin': '*',
  'Cache-Control': 'no-store',
};

/**
 * Serves `mounts` ([[urlPrefix, directory], ...], first match wins) and the virtual files of `texts` ({ urlPath: text }).
 * With `workerPrelude` every module script that a page starts as a Worker imports that URL before anything else.
 * Resolves to { base, fetched, close }; `fetched` maps each requested path to its file on disk.
 */
export async function serve(mounts, { texts = {}, workerPrelude } = {}) {
  const fetched = new Map();
  const server = http.createServer((request, response) => {
    const url = decodeURIComponent(request.url.split('?')[0]);
    const send = (type, body) => response.writeHead(200, { 'Content-Type': type, ...HEADERS }).end(body);
    if (url === '/') return send('text/html', '<!doctype html><title>kinglet bench</title>');
    if (url in texts) return send('text/javascript', texts[url]);
    const mount = mounts.find(([prefix]) => url.startsWith(prefix));
    const file = mount && path.join(mount[1], path.normalize('/' + url.slice(mount[0].length)));
    const stat = file && fs.statSync(file, { throwIfNoEntry: false });
    if (!stat?.isFile()) return response.writeHead(404, HEADERS).end();
    if (request.method !== 'HEAD') fetched.set(url, file);
    const type = TYPES[path.extname(file)] ?? 'application/octet-stream';
    if (workerPrelude && request.headers['sec-fetch-dest'] === 'worker' && url !== workerPrelude) {
      const code = fs.readFileSync(file, 'utf8');
      return send(type, /^\s*(import|export)\b/m.test(code) ? `import '${workerPrelude}';\n${code}` : `${texts[workerPrelude]}\n${code}`);
    }
    const range = /bytes=(\d+)-(\d*)/.exec(request.headers.range ?? '');
    const start = range ? Number(range[1]) : 0;
    const end = range?.[2] ? Math.min(Number(range[2]), stat.size - 1) : stat.size - 1;
    response.writeHead(range ? 206 : 200, {
      'Content-Type': type,
      'Content-Length': end - start + 1,
      'Accept-Ranges': 'bytes',
      ...(range && { 'Content-Range': `bytes ${start}-${end}/${stat.size}` }),
      ...HEADERS,
    });
    if (request.method === 'HEAD') return response.end();
    fs.createReadStream(file, { start, end }).on('error', () => response.destroy()).pipe(response);
  });
  await new Promise((ok) => server.listen(0, '127.0.0.1', ok));
  return { base: `http://127.0.0.1:${server.address().port}`, fetched, close: () => { server.close(); server.closeAllConnections(); } };
}

/** Bytes of the runtime's own code (.js, .mjs, .wasm under one of `prefixes`) among the fetched files, raw and brotli. */
export function codeBytes(fetched, prefixes) {
  const total = { raw: 0, brotli: 0, wasm: [] };
  for (const [url, file] of fetched) {
    if (!/\.(js|mjs|wasm)$/.test(file) || !prefixes.some((p) => url.startsWith(p))) continue;
    const raw = fs.readFileSync(file);
    total.raw += raw.length;
    total.brotli += brotliLength(file, raw);
    if (file.endsWith('.wasm')) total.wasm.push(url);
  }
  return total;
}

const known = new Map();
function brotliLength(file, raw) {
  const key = `${file}|${fs.statSync(file).mtimeMs}`;
  if (!known.has(key)) known.set(key, zlib.brotliCompressSync(raw, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 9, [zlib.constants.BROTLI_PARAM_SIZE_HINT]: raw.length } }).length);
  return known.get(key);
}
