/**
 * Points with their intervals, one line each: what was measured, how sure it is, and what it is compared to.
 */

import { fitted, svg } from "./dom.js";
import { scaleTo } from "./numbers.js";

/**
 * @typedef {object} Point
 * @property {string} name
 * @property {string | number} hue
 * @property {number} value
 * @property {number | null} low
 * @property {number | null} high
 * @property {number | null} [mark]  what it is compared to
 * @property {string} text  the number in words
 */

/**
 * @param {Point[]} points
 * @param {object} chart
 * @param {string} chart.label
 * @param {(value: number) => string} chart.format
 * @param {number} chart.most
 * @param {number} chart.names
 * @param {number} chart.texts
 *     where the axis ends, and room for names and numbers in pixels
 */
export const whiskers = (points, chart) => fitted((width) => drawWhiskers(points, chart, width));

/** @param {Point[]} points @param {any} chart @param {number} width */
function drawWhiskers(points, { label, format, most, names, texts }, width) {
  const row = 22;
  const height = points.length * row + 22;
  const grid = scaleTo(most);
  const end = grid[grid.length - 1];
  const [left, right] = [names, width - texts];
  const x = (/** @type {number} */ value) => left + ((right - left) * Math.min(value, end)) / end;
  const said = points.map(({ name, text }) => `${name} ${text}`).join("; ");
  const drawn = svg("svg", {
    class: "chart whiskers",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": `${label}: ${said}`,
  });
  for (const value of grid)
    drawn.append(
      svg("line", { class: "axis", x1: x(value), x2: x(value), y1: 0, y2: height - 18 }),
      svg("text", { x: x(value), y: height - 4, "text-anchor": "middle" }, format(value)),
    );
  points.forEach((point, at) => {
    const y = at * row + row / 2;
    drawn.append(svg("text", { class: "name", x: 0, y: y + 4 }, point.name));
    if (point.mark != null)
      drawn.append(
        svg("line", { class: "mark", x1: x(point.mark), x2: x(point.mark), y1: y - 7, y2: y + 7 }),
      );
    if (point.low != null && point.high != null)
      drawn.append(
        svg("line", {
          class: "whisker",
          "data-hue": point.hue,
          x1: x(point.low),
          x2: x(point.high),
          y1: y,
          y2: y,
        }),
      );
    drawn.append(
      svg("circle", { "data-hue": point.hue, cx: x(point.value), cy: y, r: 5 }),
      svg("text", { class: "value", x: width, y: y + 4, "text-anchor": "end" }, point.text),
    );
  });
  return drawn;
}
