/**
 * A heat map on one canvas: a row for each layer, a cell for each expert, room for 58 x 256 of them. The
 * pointer or the arrow keys ask for one cell, and the line beneath says what it is.
 */

import { el, onTheme, oncePerFrame, range } from "./dom.js";

const LEFT = 30;
const TOP = 16;
const HEIGHT = 232;
const CELL = { least: 3, most: 26 };
const STEPS = 24;

/**
 * Between -1 and 1: `less`, `even`, `more`. A canvas knows no variables, so a hidden element is asked.
 * @returns {(value: number) => string}
 */
function palette() {
  const probe = el("i", { class: "probe" });
  document.body.append(probe);
  const read = (/** @type {string} */ colour) => {
    probe.style.color = colour;
    return getComputedStyle(probe).color;
  };
  const arm = (/** @type {string} */ end) =>
    range(STEPS + 1).map((step) =>
      read(`color-mix(in oklab, var(--${end}) ${(100 * step) / STEPS}%, var(--even))`),
    );
  const [less, more] = [arm("less"), arm("more")];
  probe.remove();
  return (value) => (value < 0 ? less : more)[Math.round(Math.min(1, Math.abs(value)) * STEPS)];
}

/** The colour that a hue has now. @param {string | number} hue */
export function hueColour(hue) {
  const probe = el("i", { class: "probe", "data-hue": hue });
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

/**
 * @typedef {object} Cells
 * @property {string} title
 * @property {string | number | null} [hue]  of the title's swatch
 * @property {string} [aside]
 * @property {(string | number)[]} rows  names of the rows
 * @property {string} rowName  such as "layer"
 * @property {number} columns
 * @property {() => number[][]} order  which column's value stands at each place of a row
 * @property {() => (boolean | null)} [inOrder]  whether places are columns, so that numbers may be written
 * @property {number} [group]  columns in a group, between which a line is drawn
 * @property {(row: number, column: number) => number | {hue: string | number, depth: number} | null} value
 *     -1 to 1 from less to more, or how deep a hue is from 0 to 1, or null where nothing is known
 * @property {(row: number, column: number) => string} say
 * @property {string} [rest]  what is said while nothing is pointed at
 */

export class HeatMap {
  /** @type {{row: number, place: number} | null} */
  cursor = null;

  /** @param {Cells} cells */
  constructor(cells) {
    this.cells = cells;
    const size = `${cells.rows.length} ${cells.rowName}s by ${cells.columns}`;
    this.canvas = el("canvas", {
      tabindex: 0,
      role: "img",
      "aria-label": `${cells.title}: heat map, ${size}. Arrow keys move over it; the table below has its numbers.`,
    });
    this.readout = el("p", { class: "readout", "aria-live": "polite" });
    this.element = el(
      "figure",
      { class: "map" },
      el(
        "figcaption",
        {},
        cells.hue == null ? null : el("span", { class: "swatch", "data-hue": cells.hue }),
        el("h3", {}, cells.title),
        el("span", {}, cells.aside ?? ""),
      ),
      this.canvas,
      this.readout,
    );
    this.pen = this.canvas.getContext("2d");
    this.redraw = oncePerFrame(() => this.draw());
    onTheme.add(this.redraw);
    new ResizeObserver(this.redraw).observe(this.element);
    this.canvas.addEventListener("pointermove", (event) => this.point(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.point(null));
    this.canvas.addEventListener("blur", () => this.point(null));
    this.canvas.addEventListener("keydown", (event) => this.step(event));
    this.point(null);
  }

  measure() {
    const { rows, columns } = this.cells;
    const width = this.canvas.clientWidth;
    const wide = (width - LEFT) / columns;
    const high = Math.min(CELL.most, Math.max(CELL.least, Math.floor(HEIGHT / rows.length)));
    return { width, height: TOP + rows.length * high, wide, high };
  }

  draw() {
    const size = this.measure();
    if (size.width <= LEFT) return;
    const scale = devicePixelRatio || 1;
    this.canvas.width = Math.round(size.width * scale);
    this.canvas.height = Math.round(size.height * scale);
    this.canvas.style.height = `${size.height}px`;
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    this.drawAxes(size);
    this.drawCells(size, scale);
  }

  /** @param {ReturnType<HeatMap["measure"]>} size */
  drawAxes({ wide, high, height }) {
    const { rows, columns, group, inOrder } = this.cells;
    const { pen } = this;
    pen.fillStyle = hueColour("none");
    pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
    pen.textBaseline = "middle";
    pen.textAlign = "right";
    const every = high >= 12 ? 1 : Math.ceil(24 / high);
    rows.forEach((name, row) => {
      if (row % every === 0) pen.fillText(String(name), LEFT - 7, TOP + (row + 0.5) * high);
    });
    if (inOrder && !inOrder()) return;
    pen.textAlign = "center";
    for (const tick of new Set([0, columns / 4, columns / 2, (3 * columns) / 4, columns - 1].map(Math.floor)))
      pen.fillText(String(tick), Math.min(LEFT + (tick + 0.5) * wide, LEFT + columns * wide - 8), 6);
    if (!group || group >= columns) return;
    pen.strokeStyle = hueColour("line");
    pen.lineWidth = 1;
    for (let column = group; column < columns; column += group) {
      const x = Math.round(LEFT + column * wide) - 0.5;
      pen.beginPath();
      pen.moveTo(x, TOP - 4);
      pen.lineTo(x, height);
      pen.stroke();
    }
  }

  /** @param {ReturnType<HeatMap["measure"]>} size @param {number} scale */
  drawCells({ wide, high }, scale) {
    const { rows, columns, value, order, group, inOrder } = this.cells;
    const colourOf = palette();
    const hues = new Map();
    const places = order();
    const gapX = wide >= 6 ? 2 : wide >= 3 ? 1 : 0;
    const gapY = high >= 8 ? 2 : high >= 5 ? 1 : 0;
    const grouped = group && group < columns && (!inOrder || inOrder());
    // On whole pixels of the screen, or narrow cells would shimmer.
    const left = range(columns + 1).map((at) => Math.round((LEFT + at * wide) * scale) / scale);
    rows.forEach((_, row) => {
      for (let place = 0; place < columns; place++) {
        const found = value(row, places[row][place]);
        if (found === null) continue;
        const ends = grouped && (place + 1) % group === 0 ? 1 : 0;
        const width = Math.max(left[place + 1] - Math.max(gapX, ends) - left[place], 0.5);
        this.pen.fillStyle = colourOf(typeof found === "number" ? found : 0);
        this.pen.fillRect(left[place], TOP + row * high, width, high - gapY);
        if (typeof found === "number") continue;
        if (!hues.has(found.hue)) hues.set(found.hue, hueColour(found.hue));
        this.pen.fillStyle = hues.get(found.hue);
        this.pen.globalAlpha = found.depth;
        this.pen.fillRect(left[place], TOP + row * high, width, high - gapY);
        this.pen.globalAlpha = 1;
      }
    });
    if (!this.cursor) return;
    this.pen.strokeStyle = hueColour("ink");
    this.pen.lineWidth = 1.5;
    const { row, place } = this.cursor;
    this.pen.strokeRect(left[place] - 1.5, TOP + row * high - 1.5, wide - gapX + 3, high - gapY + 3);
  }

  /** @param {PointerEvent} event */
  cellAt({ offsetX, offsetY }) {
    const { wide, high } = this.measure();
    const [row, place] = [Math.floor((offsetY - TOP) / high), Math.floor((offsetX - LEFT) / wide)];
    const { rows, columns } = this.cells;
    return row >= 0 && row < rows.length && place >= 0 && place < columns ? { row, place } : null;
  }

  /** @param {KeyboardEvent} event */
  step(event) {
    const [down, right] = /** @type {Record<string, number[]>} */ ({
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
    })[event.key] ?? [0, 0];
    if (!down && !right) return;
    event.preventDefault();
    const from = this.cursor ?? { row: -down, place: -right };
    const within = (/** @type {number} */ at, /** @type {number} */ size) =>
      Math.max(0, Math.min(size - 1, at));
    this.point({
      row: within(from.row + down, this.cells.rows.length),
      place: within(from.place + right, this.cells.columns),
    });
  }

  /** Says what is under the cursor. @param {{row: number, place: number} | null} cursor */
  point(cursor) {
    this.cursor = cursor;
    const column = cursor && this.cells.order()[cursor.row][cursor.place];
    this.readout.textContent = cursor
      ? this.cells.say(cursor.row, /** @type {number} */ (column))
      : (this.cells.rest ?? "");
    this.redraw();
  }
}
