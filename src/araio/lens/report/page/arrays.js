/**
 * The inverse of `packing.py`: base64 typed arrays become nested lists of numbers again.
 */

const KINDS = /** @type {Record<string, any>} */ ({
  u1: Uint8Array,
  i1: Int8Array,
  u2: Uint16Array,
  i2: Int16Array,
  i4: Int32Array,
  f4: Float32Array,
});

/** @param {any} value @returns {any} */
export function unpacked(value) {
  if (Array.isArray(value)) return value.map(unpacked);
  if (value === null || typeof value !== "object") return value;
  if ("packed" in value) return numbersOf(value);
  return Object.fromEntries(Object.entries(value).map(([name, part]) => [name, unpacked(part)]));
}

/**
 * @typedef {{packed: string, scale: number | null, shape: number[], missing: boolean, base64: string}} Packed
 */

/** @param {Packed} packed */
function numbersOf({ packed, scale, shape, missing, base64 }) {
  const raw = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const array = new KINDS[packed](raw.buffer);
  const least = -(2 ** (8 * array.BYTES_PER_ELEMENT - 1));
  // A float32 is what it was rounded to, six digits, once it is rounded again.
  const read =
    packed === "f4"
      ? (/** @type {number} */ number) => (Number.isNaN(number) ? null : Number(number.toPrecision(6)))
      : (/** @type {number} */ number) => (missing && number === least ? null : number / (scale ?? 1));
  let values = Array.from(array, read);
  for (const size of shape.slice(1).reverse()) {
    const rows = [];
    for (let start = 0; start < values.length; start += size) rows.push(values.slice(start, start + size));
    values = /** @type {any} */ (rows);
  }
  return values;
}
