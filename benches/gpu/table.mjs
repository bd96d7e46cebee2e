// Reports of `kinglet bench --backend webgpu --json` beside what the device can do: the time of a token against
// T = dispatches x 4 us + bytes / (0.75 x measured stream read), prefill against the measured peak.
import os from 'node:os';

const DISPATCH_US = 4;

export function machine() {
  const [cpu] = os.cpus();
  return { cpu: cpu.model, cores: os.cpus().length, load: os.loadavg()[0], date: new Date().toISOString() };
}

function evaluate({ model, prompt, report }) {
  const { parameters, decodeTokensPerSecond, prefillTokensPerSecond, profile } = report;
  const { kernels, dispatchesPerToken, streamReadGigabytesPerSecond: read } = profile;
  const bytes = kernels.reduce((sum, kernel) => sum + kernel.bytes, 0);
  const token = 1e6 / decodeTokensPerSecond;
  const head = kernels.find((kernel) => kernel.name === 'head');
  // Of a prompt only the last token passes the head.
  const layers = parameters * (1 - (head?.bytes ?? 0) / bytes);
  const peak = Math.max(profile.peakF32Gmacs, profile.peakDotGmacs);
  return {
    model,
    prompt,
    prefill: prefillTokensPerSecond,
    ofPeak: (prefillTokensPerSecond * layers) / (peak * 1e9),
    decode: decodeTokensPerSecond,
    ofModel: (dispatchesPerToken * DISPATCH_US + bytes / (0.75 * read * 1e3)) / token,
    beyond: (token - bytes / (read * 1e3)) / dispatchesPerToken,
    dispatches: dispatchesPerToken,
    encode: profile.encodeMicroseconds / dispatchesPerToken,
    submit: profile.submitMicroseconds / dispatchesPerToken,
  };
}

/** Markdown. */
export function table({ machine, results }) {
  const { profile } = results[0].report;
  const about = `${profile.adapter}, on ${machine.cores} cores of ${machine.cpu}; reads ${profile.streamReadGigabytesPerSecond.toFixed(1)} GB/s, ${profile.peakF32Gmacs.toFixed(0)} G float and ${profile.peakDotGmacs.toFixed(0)} G byte multiply-adds/s; ${machine.date.slice(0, 16).replace('T', ' ')} UTC${machine.load === undefined ? '' : `, load ${machine.load.toFixed(1)} before the run`}.`;
  const percent = (x) => `${(100 * x).toFixed(0)} %`;
  const rows = results.map(evaluate).map((r) => [
    r.model, r.prompt, r.prefill.toFixed(1), percent(r.ofPeak), r.decode.toFixed(1), percent(r.ofModel), r.beyond.toFixed(1), r.dispatches, r.encode.toFixed(2), r.submit.toFixed(2),
  ]);
  const head = ['model', 'prompt', 'prefill tok/s', 'of peak', 'decode tok/s', 'of T', 'us a dispatch beyond bandwidth', 'dispatches a token', 'us to encode one', 'us to submit one'];
  const line = (cells) => `| ${cells.join(' | ')} |`;
  return [about, '', line(head), line(head.map((_, i) => (i ? '--:' : '---'))), ...rows.map(line)].join('\n');
}
