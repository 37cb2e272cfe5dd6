/**
 * The map of experts: a row for each MoE layer, a column for each expert, on one canvas that has room for
 * 58 x 256 of them. Two lights lie over each other: how often the shown answer used an expert, and what has
 * just been lit and fades. While one token is looked at, its experts are lit alone.
 */

import { byId, isStill, oncePerFrame } from "./dom.js";

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
const MARGIN = { left: 26, top: 16 };
const HEIGHT = 168;
export const HUES = 6;

export class ExpertMap {
  /** @type {Shape} */
  shape = { layers: [], n_experts: 0, top_k: 0, domains: null };
  heat = new Float32Array(0);
  used = new Float32Array(0);
  counts = new Float32Array(0);
  tokens = 0;
  /** @type {Token | null} */
  token = null;
  /** @type {{row: number, column: number} | null} */
  cursor = null;
  last = 0;

  constructor() {
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("map"));
    this.readout = byId("map-readout");
    this.pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.redraw = oncePerFrame(() => this.draw());
    new ResizeObserver(this.redraw).observe(byId("map-frame"));
    this.canvas.addEventListener("pointermove", (event) =>
      this.point(this.cellAt(event.offsetX, event.offsetY)),
    );
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
  }

  /** @param {Shape} shape */
  setShape(shape) {
    const cells = shape.layers.length * shape.n_experts;
    const grown = cells !== this.heat.length;
    this.shape = shape;
    if (grown) {
      [this.heat, this.used, this.counts] = [
        new Float32Array(cells),
        new Float32Array(cells),
        new Float32Array(cells),
      ];
    }
    this.canvas.setAttribute(
      "aria-label",
      `Map of experts: ${shape.layers.length} layers by ${shape.n_experts} experts. Arrow keys move over it.`,
    );
    this.point(null);
    this.redraw();
  }

  /** Lights the experts of a token that has just come. @param {Token} token */
  light(token) {
    this.heat.forEach((heat, cell) => (this.heat[cell] = heat * KEPT_BY_A_TOKEN));
    this.each(token, (cell) => {
      this.heat[cell] = 1;
      this.counts[cell] += 1;
    });
    this.tokens += 1;
    this.spread();
    this.redraw();
  }

  /** Shows how often each expert was used by these. @param {Token[]} tokens */
  showTokens(tokens) {
    this.counts.fill(0);
    for (const token of tokens) this.each(token, (cell) => (this.counts[cell] += 1));
    this.showCounts(tokens.length);
  }

  /**
   * Shows what the server counted for all requests.
   * @param {number[][]} counts @param {number[][]} recent @param {number} tokens
   */
  showServer(counts, recent, tokens) {
    this.counts.set(counts.flat());
    const most = Math.max(...recent.flat(), 1e-9);
    recent.flat().forEach((value, cell) => (this.heat[cell] = most < 0.5 ? 0 : value / most));
    this.showCounts(tokens);
  }

  /** @param {number} tokens */
  showCounts(tokens) {
    this.tokens = tokens;
    this.token = null;
    this.spread();
    this.point(this.cursor);
    this.redraw();
  }

  /** Shows the experts of one token alone; null ends that. @param {Token | null} token */
  showToken(token) {
    this.token = token;
    this.redraw();
  }

  /** @param {Token} token @param {(cell: number, share: number) => void} visit  with its part of the layer */
  each(token, visit) {
    token.experts.forEach((ids, row) => {
      const sum = token.weights[row].reduce((total, weight) => total + weight, 0) || 1;
      ids.forEach((id, k) => visit(row * this.shape.n_experts + id, token.weights[row][k] / sum));
    });
  }

  /** Shares of use by layer. */
  spread() {
    const { n_experts: n } = this.shape;
    for (let row = 0; row < this.shape.layers.length; row++) {
      let most = 0;
      for (let cell = row * n; cell < (row + 1) * n; cell++) most = Math.max(most, this.counts[cell]);
      for (let cell = row * n; cell < (row + 1) * n; cell++)
        this.used[cell] = most ? this.counts[cell] / most : 0;
    }
  }

  measure() {
    const width = byId("map-frame").clientWidth;
    const rows = this.shape.layers.length || 1;
    const wide = (width - MARGIN.left) / (this.shape.n_experts || 1);
    const high = Math.min(28, Math.max(3, Math.floor(HEIGHT / rows)));
    return {
      width,
      wide,
      high,
      height: MARGIN.top + rows * high,
      gap: wide >= 6 ? 2 : wide >= 3 ? 1 : 0,
      gapY: high >= 8 ? 2 : high >= 4 ? 1 : 0,
    };
  }

  draw() {
    const now = performance.now();
    const isFading = this.fade(now - this.last);
    this.last = now;
    const size = this.measure();
    if (!size.width || !this.shape.n_experts) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(size.width * scale);
    this.canvas.height = Math.round(size.height * scale);
    this.canvas.style.height = `${size.height}px`;
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    const colours = this.colours();
    this.drawAxes(size, colours.text);
    this.drawCells(size, colours);
    if (isFading) this.redraw();
  }

  /** @param {number} ms since the last frame @returns {boolean} whether something still glows */
  fade(ms) {
    if (isStill()) return false;
    const keep = Math.exp(-Math.min(ms, 100) / FADE_MS);
    let most = 0;
    for (let cell = 0; cell < this.heat.length; cell++) {
      this.heat[cell] = this.heat[cell] * keep;
      if (this.heat[cell] < 0.01) this.heat[cell] = 0;
      most = Math.max(most, this.heat[cell]);
    }
    return most > 0;
  }

  colours() {
    const swatch = (/** @type {string} */ name) =>
      getComputedStyle(
        /** @type {Element} */ (document.querySelector(`.swatches [data-hue=${JSON.stringify(name)}]`)),
      ).color;
    const hues = Array.from({ length: HUES }, (_, hue) => swatch(String(hue)));
    return { rest: swatch("rest"), text: swatch("text"), lit: swatch("lit"), none: swatch("none"), hues };
  }

  /** @param {ReturnType<ExpertMap["measure"]>} size @param {string} colour */
  drawAxes({ wide, high }, colour) {
    const { layers, n_experts: n } = this.shape;
    this.pen.fillStyle = colour;
    this.pen.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
    this.pen.textBaseline = "middle";
    this.pen.textAlign = "right";
    const every = high >= 11 ? 1 : Math.ceil(22 / high);
    layers.forEach((layer, row) => {
      if (row % every === 0)
        this.pen.fillText(String(layer), MARGIN.left - 7, MARGIN.top + (row + 0.5) * high);
    });
    this.pen.textAlign = "center";
    const ticks = [0, n / 4, n / 2, (3 * n) / 4, n - 1].map(Math.floor);
    for (const tick of new Set(ticks)) {
      const x = MARGIN.left + (tick + 0.5) * wide;
      this.pen.fillText(String(tick), Math.min(x, MARGIN.left + n * wide - 10), 6);
    }
  }

  /** @param {ReturnType<ExpertMap["measure"]>} size @param {ReturnType<ExpertMap["colours"]>} colours */
  drawCells({ wide, high, gap, gapY }, colours) {
    const { layers, n_experts: n, domains } = this.shape;
    const scale = devicePixelRatio || 1;
    const snap = (/** @type {number} */ x) => Math.round(x * scale) / scale;
    const alone = new Map();
    if (this.token)
      this.each(this.token, (cell, share) =>
        alone.set(cell, 0.35 + 0.65 * Math.min(1, (share * this.shape.top_k) / 2)),
      );
    for (let row = 0; row < layers.length; row++) {
      for (let column = 0; column < n; column++) {
        const cell = row * n + column;
        // On whole pixels of the screen, or narrow cells would shimmer.
        const x = snap(MARGIN.left + column * wide);
        const width = Math.max(snap(MARGIN.left + (column + 1) * wide) - gap - x, 0.5);
        const box = /** @type {const} */ ([x, MARGIN.top + row * high, width, high - gapY]);
        this.pen.globalAlpha = 1;
        this.pen.fillStyle = colours.rest;
        this.pen.fillRect(...box);
        const light = this.token ? (alone.get(cell) ?? 0) : Math.max(this.heat[cell], this.used[cell] * 0.55);
        if (light > 0) {
          const domain = domains?.experts[row]?.[column];
          this.pen.fillStyle = !domains
            ? colours.lit
            : domain == null
              ? colours.none
              : colours.hues[domain % HUES];
          this.pen.globalAlpha = light;
          this.pen.fillRect(...box);
        }
      }
    }
    this.pen.globalAlpha = 1;
    if (!this.cursor) return;
    this.pen.strokeStyle = colours.text;
    this.pen.lineWidth = 1.5;
    const [x, y] = [MARGIN.left + this.cursor.column * wide, MARGIN.top + this.cursor.row * high];
    this.pen.strokeRect(x - 1.5, y - 1.5, Math.max(wide - gap, 0.6) + 3, high - gapY + 3);
  }

  /** @param {number} x @param {number} y */
  cellAt(x, y) {
    const { wide, high } = this.measure();
    const row = Math.floor((y - MARGIN.top) / high);
    const column = Math.floor((x - MARGIN.left) / wide);
    const isInside =
      row >= 0 && row < this.shape.layers.length && column >= 0 && column < this.shape.n_experts;
    return isInside ? { row, column } : null;
  }

  /** @param {KeyboardEvent} event */
  step(event) {
    const moves = /** @type {Record<string, [number, number]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    });
    const move = moves[event.key];
    if (!move || !this.shape.layers.length) return;
    event.preventDefault();
    const within = (/** @type {number} */ value, /** @type {number} */ size) =>
      Math.max(0, Math.min(size - 1, value));
    const from = this.cursor ?? { row: 0, column: -move[1] };
    this.point({
      row: within(from.row + move[0], this.shape.layers.length),
      column: within(from.column + move[1], this.shape.n_experts),
    });
  }

  /** Says what is under the cursor. @param {{row: number, column: number} | null} cursor */
  point(cursor) {
    this.cursor = cursor;
    this.readout.textContent = cursor ? this.sayCell(cursor) : this.sayAll();
    this.redraw();
  }

  /** @param {{row: number, column: number}} cursor */
  sayCell({ row, column }) {
    const cell = row * this.shape.n_experts + column;
    const domain = this.shape.domains?.experts[row]?.[column];
    const name = domain == null ? "" : `, ${this.shape.domains?.names[domain]}`;
    const use = this.tokens
      ? `: ${this.counts[cell].toLocaleString("en")} of ${this.tokens.toLocaleString("en")} tokens`
      : "";
    return `Layer ${this.shape.layers[row]}, expert ${column}${name}${use}`;
  }

  sayAll() {
    const { layers, n_experts: n, top_k: k } = this.shape;
    return n ? `${layers.length} layers × ${n} experts; each token is given to ${k} in every layer` : "";
  }
}
