/**
 * Numbers as people read them: three digits and a decimal prefix, as in the receipts of `araio run`.
 */

const PREFIXES = [
  [1e15, "P"],
  [1e12, "T"],
  [1e9, "G"],
  [1e6, "M"],
  [1e3, "k"],
  [1, ""],
  [1e-3, "m"],
  [1e-6, "µ"],
];
const THIN = "\u202f";

const digits = (/** @type {number} */ number) =>
  number.toFixed(number >= 99.95 ? 0 : number >= 9.995 ? 1 : 2);

/** `3.21 J`, `412 mg`, `1.06 GFLOP`. @param {number} value @param {string} unit */
export function quantity(value, unit) {
  for (const [size, prefix] of PREFIXES) {
    // What would round to 1,000 has the next prefix.
    if (Math.abs(value) >= Number(size) * 0.9995)
      return `${digits(value / Number(size))}${THIN}${prefix}${unit}`;
  }
  return value === 0 ? `0${THIN}${unit}` : `${value.toPrecision(1)}${THIN}${unit}`;
}

/** Parameters as models are named: `671B`, `10.5M`. @param {number} value */
export const parameters = (value) =>
  quantity(value, "")
    .replace(THIN, "")
    .replace("G", "B")
    .replace("k", "K")
    .replace(/\.0+(?=\D|$)/, "");

/** `84 tokens`, `1 token`. @param {number} number @param {string} noun */
export const plural = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

/** `3.2 s`, `1 min 12 s`. @param {number} ms */
export function seconds(ms) {
  const s = ms / 1000;
  return s < 60 ? `${s.toFixed(1)} s` : `${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
}

/** `24.7 %`. @param {number} share */
export const percent = (share) => `${(share * 100).toFixed(share < 0.0995 ? 2 : 1)}${THIN}%`;

/** Two digits, or all before the point and two behind it. @param {number} amount @param {string} currency */
export function money(amount, currency) {
  const decimals = amount >= 1 || amount === 0 ? 2 : 1 - Math.floor(Math.log10(amount));
  return `${amount.toFixed(Math.min(decimals, 20))} ${currency}`;
}
