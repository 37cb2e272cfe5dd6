/**
 * The map of experts: a row for each MoE layer, a column for each expert, on one canvas that has room for
 * 58 x 256 of them. The pointer or the arrow keys ask for one of them. Read `lights.js` for what is lit.
 */

import { byId, isStill, oncePerFrame } from "./dom.js";
import { Lights, hueOf } from "./lights.js";

/** @typedef {import("./lights.js").Shape} Shape */
/** @typedef {{row: number, column: number}} Cell */

const LEFT = 26;
const TOP = 16;
const HEIGHT = 168;
const ROW = { least: 3, most: 28 };

/** The colour of a swatch of the stylesheet, as the theme has it. @param {string} hue */
const swatch = (hue) => getComputedStyle(byId(`hue-${hue}`)).color;

export class ExpertMap {
  lights = new Lights({ layers: [], n_experts: 0, top_k: 0, domains: null });
  /** @type {Cell | null} */
  cursor = null;
  drawnAt = 0;

  constructor() {
    this.canvas = /** @type {HTMLCanvasElement} */ (byId("map"));
    this.pen = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    this.redraw = oncePerFrame(() => this.draw());
    new ResizeObserver(this.redraw).observe(byId("map-frame"));
    this.canvas.addEventListener("pointermove", (event) => this.point(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
  }

  /** @param {Shape} shape */
  setShape(shape) {
    this.lights = new Lights(shape);
    const size = `${shape.layers.length} layers by ${shape.n_experts} experts`;
    this.canvas.setAttribute("aria-label", `Map of experts, ${size}. Arrow keys move over it.`);
    this.point(null);
  }

  /** Changes what is lit, and shows it. @param {(lights: Lights) => void} change */
  light(change) {
    change(this.lights);
    if (this.cursor) this.point(this.cursor);
    this.redraw();
  }

  measure() {
    const { layers, n_experts: n } = this.lights.shape;
    const width = byId("map-frame").clientWidth;
    const wide = (width - LEFT) / (n || 1);
    const high = Math.min(ROW.most, Math.max(ROW.least, Math.floor(HEIGHT / (layers.length || 1))));
    const gapX = wide >= 6 ? 2 : wide >= 3 ? 1 : 0;
    const gapY = high >= 8 ? 2 : high >= 4 ? 1 : 0;
    return { width, height: TOP + layers.length * high, wide, high, gapX, gapY };
  }

  draw() {
    const now = performance.now();
    const glows = !isStill() && this.lights.fade(now - this.drawnAt);
    this.drawnAt = now;
    const size = this.measure();
    if (size.width <= LEFT || !this.lights.shape.n_experts) return;
    this.lights.share();
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(size.width * scale);
    this.canvas.height = Math.round(size.height * scale);
    this.canvas.style.height = `${size.height}px`;
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.drawAxes(size);
    this.drawCells(size, scale);
    if (glows) this.redraw();
  }

  /** @param {ReturnType<ExpertMap["measure"]>} size */
  drawAxes({ wide, high }) {
    const { layers, n_experts: n } = this.lights.shape;
    this.pen.fillStyle = swatch("text");
    this.pen.font = "10px ui-monospace, 'DejaVu Sans Mono', monospace";
    this.pen.textBaseline = "middle";
    this.pen.textAlign = "right";
    const every = high >= 11 ? 1 : Math.ceil(22 / high);
    layers.forEach((layer, row) => {
      if (row % every === 0) this.pen.fillText(String(layer), LEFT - 7, TOP + (row + 0.5) * high);
    });
    this.pen.textAlign = "center";
    for (const tick of new Set([0, n / 4, n / 2, (3 * n) / 4, n - 1].map(Math.floor))) {
      const x = LEFT + (tick + 0.5) * wide;
      this.pen.fillText(String(tick), Math.min(x, LEFT + n * wide - 10), 6);
    }
  }

  /** @param {ReturnType<ExpertMap["measure"]>} size @param {number} scale */
  drawCells({ wide, high, gapX, gapY }, scale) {
    const { layers, n_experts: n } = this.lights.shape;
    // On whole pixels of the screen, or narrow cells would shimmer.
    const left = Array.from({ length: n + 1 }, (_, at) => Math.round((LEFT + at * wide) * scale) / scale);
    const fill = (/** @type {number} */ cell) => {
      const column = cell % n;
      const width = Math.max(left[column + 1] - gapX - left[column], 0.5);
      this.pen.fillRect(left[column], TOP + Math.floor(cell / n) * high, width, high - gapY);
    };
    const cells = layers.length * n;
    this.pen.fillStyle = swatch("rest");
    for (let cell = 0; cell < cells; cell++) fill(cell);
    // One colour after the other: to change it is what takes time.
    for (const [hue, lit] of this.litByHue(cells)) {
      this.pen.fillStyle = swatch(hue);
      for (const cell of lit) {
        this.pen.globalAlpha = this.lights.of(cell);
        fill(cell);
      }
    }
    this.pen.globalAlpha = 1;
    if (!this.cursor) return;
    this.pen.strokeStyle = swatch("text");
    this.pen.lineWidth = 1.5;
    const { row, column } = this.cursor;
    this.pen.strokeRect(left[column] - 1.5, TOP + row * high - 1.5, wide - gapX + 3, high - gapY + 3);
  }

  /** The cells that are not dark, by the swatch of their domain. @param {number} cells */
  litByHue(cells) {
    const { shape } = this.lights;
    /** @type {Map<string, number[]>} */
    const lit = new Map();
    for (let cell = 0; cell < cells; cell++) {
      if (this.lights.of(cell) === 0) continue;
      const row = Math.floor(cell / shape.n_experts);
      const hue = hueOf(shape, shape.domains?.experts[row]?.[cell % shape.n_experts]);
      if (!lit.has(hue)) lit.set(hue, []);
      lit.get(hue)?.push(cell);
    }
    return lit;
  }

  /** @param {PointerEvent} event @returns {Cell | null} */
  cellAt({ offsetX, offsetY }) {
    const { wide, high } = this.measure();
    const { layers, n_experts: n } = this.lights.shape;
    const [row, column] = [Math.floor((offsetY - TOP) / high), Math.floor((offsetX - LEFT) / wide)];
    return row >= 0 && row < layers.length && column >= 0 && column < n ? { row, column } : null;
  }

  /** @param {KeyboardEvent} event */
  step(event) {
    const [down, right] = /** @type {Record<string, number[]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    })[event.key] ?? [0, 0];
    const { layers, n_experts: n } = this.lights.shape;
    if ((!down && !right) || !n) return;
    event.preventDefault();
    const from = this.cursor ?? { row: -down, column: -right };
    const within = (/** @type {number} */ at, /** @type {number} */ size) =>
      Math.max(0, Math.min(size - 1, at));
    this.point({ row: within(from.row + down, layers.length), column: within(from.column + right, n) });
  }

  /** Says what is under the cursor. @param {Cell | null} cursor */
  point(cursor) {
    this.cursor = cursor;
    byId("map-readout").textContent = cursor ? this.sayCell(cursor) : this.sayAll();
    this.redraw();
  }

  /** @param {Cell} cell */
  sayCell({ row, column }) {
    const { shape, counts, tokens } = this.lights;
    const domain = shape.domains?.experts[row]?.[column];
    const name = domain == null ? "" : `, ${shape.domains?.names[domain]}`;
    const count = counts[row * shape.n_experts + column];
    const use = tokens ? `: ${count.toLocaleString("en")} of ${tokens.toLocaleString("en")} tokens` : "";
    return `Layer ${shape.layers[row]}, expert ${column}${name}${use}`;
  }

  sayAll() {
    const { layers, n_experts: n, top_k: k } = this.lights.shape;
    if (!n) return "This model has no experts to choose from.";
    return `${layers.length} layers × ${n} experts, ${k} in each for a token`;
  }
}
