/**
 * Numbers as people read them. What is missing is a dash.
 */

const GAP = "\u202f";
export const DASH = "\u2013";

/** `1,234`. @param {number | null} value */
export const whole = (value) => (value == null ? DASH : Math.round(value).toLocaleString("en"));

/** `0.123`; `digits` behind the point. @param {number | null | undefined} value */
export const fixed = (value, digits = 2) => (value == null ? DASH : value.toFixed(digits));

/** `24.7 %`, below ten per cent one digit, below one two. @param {number | null | undefined} share */
export function percent(share) {
  if (share == null) return DASH;
  const value = share * 100;
  return `${value.toFixed(value >= 9.95 || value === 0 ? 0 : value >= 0.995 ? 1 : 2)}${GAP}%`;
}

/** `2.4 ×`. @param {number | null | undefined} ratio */
export const times = (ratio) =>
  ratio == null ? DASH : `${ratio.toFixed(ratio >= 9.95 ? 0 : ratio >= 0.995 || ratio === 0 ? 1 : 2)}${GAP}×`;

/** `0.214 bit`. @param {number | null | undefined} value */
export const bits = (value) => (value == null ? DASH : `${value.toFixed(3)}${GAP}bit`);

/** `p = 0.004`, never zero: with n shuffles nothing below 1 / (n + 1) can be said. @param {number | null} p */
export const chance = (p) => (p == null ? DASH : p < 0.001 ? "p < 0.001" : `p = ${p.toFixed(3)}`);

/** `84 tokens`, `1 token`. @param {number} number @param {string} noun */
export const plural = (number, noun) => `${whole(number)} ${noun}${number === 1 ? "" : "s"}`;

/** `a, b and c`. @param {string[]} words */
export const listed = (words) =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;

/** `1.2 GB`. @param {number} count */
export function bytes(count) {
  const at = count > 0 ? Math.min(4, Math.floor(Math.log10(count) / 3)) : 0;
  const value = count / 1000 ** at;
  return `${value.toFixed(at && value < 100 ? 1 : 0)}${GAP}${["B", "kB", "MB", "GB", "TB"][at]}`;
}

/** Round numbers from 0 to the first that is not below `most`, three to six of them. @param {number} most */
export function scaleTo(most) {
  const power = 10 ** Math.floor(Math.log10(most / 3));
  const step = power * /** @type {number} */ ([1, 2, 2.5, 5, 10].find((size) => most / (size * power) <= 5));
  const count = Math.ceil(most / step - 1e-9);
  return Array.from({ length: count + 1 }, (_, at) => at * step);
}

/** The mean of what is there. @param {(number | null)[]} values */
export function mean(values) {
  const known = values.filter((value) => value != null);
  return known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
}
