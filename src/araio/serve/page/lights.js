/**
 * How bright each expert is. Two lights lie over each other: how often it was used, and how lately; while one
 * token is looked at, its experts are lit alone. Cells are numbered layer by layer; nothing is drawn here.
 */

/** @typedef {import("./conversation.js").Token} Token */
/**
 * @typedef {object} Shape
 * @property {number[]} layers  numbers of the MoE layers
 * @property {number} n_experts
 * @property {number} top_k
 * @property {{names: string[], experts: (number | null)[][]} | null} domains  for each expert of each layer,
 *     an index into the names
 */

const FADE_MS = 900;
/** What a token leaves of the light of those before it: a fast model must not light everything. */
const KEPT_BY_A_TOKEN = 0.62;
/** How bright the most used expert of a layer is while nothing glows. */
const MOST_USED = 0.55;
/** Of a token's experts, how bright the one of least weight is. */
const LEAST_ALONE = 0.35;

/** How many hues there are for domains; panel.css has them. */
const HUES = 6;

/** The swatch of an expert of that domain. @param {Shape} shape @param {number | null | undefined} domain */
export const hueOf = (shape, domain) =>
  !shape.domains ? "lit" : domain == null ? "none" : String(domain % HUES);

export class Lights {
  tokens = 0;
  /** @type {Map<number, number> | null} */
  alone = null;

  /** @param {Shape} shape */
  constructor(shape) {
    this.shape = shape;
    const cells = shape.layers.length * shape.n_experts;
    this.counts = new Float32Array(cells);
    this.used = new Float32Array(cells);
    this.heat = new Float32Array(cells);
  }

  /** From 0 to 1. @param {number} cell */
  of(cell) {
    return this.alone ? (this.alone.get(cell) ?? 0) : Math.max(this.heat[cell], this.used[cell] * MOST_USED);
  }

  /** Lights the experts of a token that has just come. @param {Token} token */
  add(token) {
    for (let cell = 0; cell < this.heat.length; cell++) this.heat[cell] *= KEPT_BY_A_TOKEN;
    this.each(token, (cell) => (this.heat[cell] = 1));
    this.count(token);
  }

  /** How often each expert was used by these. @param {Token[]} tokens */
  showTokens(tokens) {
    this.counts.fill(0);
    this.tokens = 0;
    for (const token of tokens) this.count(token);
  }

  /**
   * What the server counted for all requests.
   * @param {number[][]} counts @param {number[][]} recent @param {number} tokens
   */
  showServer(counts, recent, tokens) {
    this.counts.set(counts.flat());
    const heat = recent.flat();
    const most = heat.reduce((one, other) => Math.max(one, other), 1);
    this.heat.set(heat.map((value) => value / most));
    this.tokens = tokens;
  }

  /** The experts of one token alone; null ends that. @param {Token | null} token */
  showAlone(token) {
    this.alone = token && new Map();
    if (!token) return;
    this.each(token, (cell, part) => {
      const brightness = Math.min(1, (part * this.shape.top_k) / 2);
      this.alone?.set(cell, LEAST_ALONE + (1 - LEAST_ALONE) * brightness);
    });
  }

  /** Lets the glow fade. @param {number} ms @returns {boolean} whether there is any left */
  fade(ms) {
    const kept = Math.exp(-Math.min(ms, 100) / FADE_MS);
    let most = 0;
    for (let cell = 0; cell < this.heat.length; cell++) {
      this.heat[cell] = this.heat[cell] < 0.01 ? 0 : this.heat[cell] * kept;
      most = Math.max(most, this.heat[cell]);
    }
    return most > 0;
  }

  /** @param {Token} token */
  count(token) {
    this.each(token, (cell) => (this.counts[cell] += 1));
    this.tokens += 1;
  }

  /** @param {Token} token @param {(cell: number, part: number) => void} visit  with its part of the weight */
  each(token, visit) {
    token.experts.forEach((ids, row) => {
      const sum = token.weights[row].reduce((total, weight) => total + weight, 0) || 1;
      ids.forEach((id, k) => visit(row * this.shape.n_experts + id, token.weights[row][k] / sum));
    });
  }

  /** Makes shares of the counts, by layer; before it is drawn, not for every token. */
  share() {
    const n = this.shape.n_experts;
    for (let from = 0; from < this.counts.length; from += n) {
      const layer = this.counts.subarray(from, from + n);
      const most = layer.reduce((one, other) => Math.max(one, other), 0) || 1;
      layer.forEach((count, column) => (this.used[from + column] = count / most));
    }
  }
}
