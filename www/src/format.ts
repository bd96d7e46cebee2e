// Numbers for people.

const whole = new Intl.NumberFormat("en");

export const count = (n: number) => whole.format(n);

/** Three significant digits at most, "SI" units as in file managers and data sheets. */
export function short(n: number, unit = ""): string {
  let power = 0;
  while (n >= 999.5 && power < 4) {
    n /= 1000;
    power++;
  }
  const digits = n >= 100 || power === 0 ? 0 : n >= 10 ? 1 : 2;
  return `${Number(n.toFixed(digits))}${unit && " "}${["", "k", "M", "G", "T"][power]}${unit}`;
}

export const bytes = (n: number) => short(n, "B");
export const seconds = (ms: number) => `${(ms / 1000).toFixed(ms < 10_000 ? 2 : 1)} s`;
/** Of tokens a second, three digits. */
export const rate = (tokens: number, ms: number) => (ms > 0 ? count(Number(((tokens * 1000) / ms).toPrecision(3))) : "–");
