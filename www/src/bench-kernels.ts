// Two loops that a CPU can do no faster, as WebAssembly written by hand: reading memory, and products of small integers.

/** One after the other, for as long as they are asked for. */
export interface Kernels {
  /** Bytes that `read` passes over. */
  bytes: number;
  /** Reads all of the memory once, sixteen bytes at a time. */
  read(): void;
  /** So many rounds, each of `macsPerRound` multiply-adds that do not wait for one another. */
  multiply(rounds: number): void;
  macsPerRound: number;
}

/** What a worker is asked: memory to read, and for how long. */
export interface BenchTask {
  bytes: number;
  ms: number;
}

export interface BenchResult {
  bytesPerSecond: number;
  macsPerSecond: number;
}

const I32 = 0x7f;
const V128 = 0x7b;
const get = (local: number) => [0x20, local];
const set = (local: number) => [0x21, local];
const tee = (local: number) => [0x22, local];
const constant = (value: number) => [0x41, ...signed(value)];
const simd = (...code: number[]) => [0xfd, ...code];
const ADD = simd(0xae, 0x01);
const EXTRACT = simd(0x1b, 0);
const DOT = simd(0xba, 0x01);
const RELAXED_DOT = simd(0x93, 0x02);

function unsigned(value: number): number[] {
  const bytes = [];
  do {
    const rest = value >>> 7;
    bytes.push((value & 0x7f) | (rest ? 0x80 : 0));
    value = rest;
  } while (value);
  return bytes;
}

function signed(value: number): number[] {
  const bytes = [];
  for (;;) {
    const low = value & 0x7f;
    value >>= 7;
    const last = (value === 0 && !(low & 0x40)) || (value === -1 && Boolean(low & 0x40));
    bytes.push(low | (last ? 0 : 0x80));
    if (last) return bytes;
  }
}

const section = (id: number, content: number[]) => [id, ...unsigned(content.length), ...content];
const body = (locals: number, code: number[]) => {
  const content = [1, locals, V128, ...code, 0x0b];
  return [...unsigned(content.length), ...content];
};
const loop = (code: number[], again: number[]) => [0x03, 0x40, ...code, ...again, 0x0d, 0, 0x0b];
const sum = (from: number, count: number) => [...get(from), ...Array.from({ length: count - 1 }, (_, i) => [...get(from + 1 + i), ...ADD]).flat(), ...EXTRACT];

/** (from, to): four sums that do not wait for one another, eight loads a round. */
const LOADS = 8;
function readCode(): number[] {
  const loads = Array.from({ length: LOADS }, (_, i) => [...get(2 + (i % 4)), ...get(0), ...simd(0x00, 4, ...unsigned(16 * i)), ...ADD, ...set(2 + (i % 4))]).flat();
  return [...loop(loads, [...get(0), ...constant(16 * LOADS), 0x6a, ...tee(0), ...get(1), 0x49]), ...sum(2, 4)];
}

/** (rounds): sums in `CHAINS` registers. */
const CHAINS = 8;
function multiplyCode(relaxed: boolean): number[] {
  const ones = [...constant(0x01010101), ...simd(0x11), ...set(1)];
  const step = (chain: number) => (relaxed ? [...get(1), ...get(1), ...get(chain), ...RELAXED_DOT] : [...get(chain), ...get(1), ...DOT]);
  const steps = Array.from({ length: CHAINS }, (_, i) => [...step(2 + i), ...set(2 + i)]).flat();
  return [...ones, ...loop(steps, [...get(0), ...constant(1), 0x6b, ...tee(0)]), ...sum(2, CHAINS)];
}

function moduleOf(pages: number, relaxed: boolean): Uint8Array<ArrayBuffer> {
  const name = (text: string) => [text.length, ...new TextEncoder().encode(text)];
  const codes = [body(4, readCode()), body(1 + CHAINS, multiplyCode(relaxed))];
  return new Uint8Array([
    0, 97, 115, 109, 1, 0, 0, 0,
    ...section(1, [2, 0x60, 2, I32, I32, 1, I32, 0x60, 1, I32, 1, I32]),
    ...section(3, [2, 0, 1]),
    ...section(5, [1, 0, ...unsigned(pages)]),
    ...section(7, [2, ...name("read"), 0, 0, ...name("multiply"), 0, 1]),
    ...section(10, [2, ...codes.flat()]),
  ]);
}

const PAGE = 65_536;

/** @param bytes rounded up to whole pages of WebAssembly */
export async function makeKernels(bytes: number): Promise<Kernels> {
  const pages = Math.max(1, Math.ceil(bytes / PAGE));
  const relaxed = WebAssembly.validate(moduleOf(1, true));
  const { instance } = await WebAssembly.instantiate(moduleOf(pages, relaxed));
  const { read, multiply } = instance.exports as { read(from: number, to: number): number; multiply(rounds: number): number };
  return {
    bytes: pages * PAGE,
    read: () => void read(0, pages * PAGE),
    multiply: (rounds) => void multiply(rounds),
    macsPerRound: CHAINS * (relaxed ? 16 : 8),
  };
}
