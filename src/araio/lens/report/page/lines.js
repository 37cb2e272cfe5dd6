/**
 * A line chart: few series over one axis, named in a legend, drawn as SVG.
 */

import { el, fitted, range, svg } from "./dom.js";
import { scaleTo } from "./numbers.js";

const SIZE = { height: 260, left: 44, right: 22, top: 12, bottom: 40 };

/**
 * @typedef {object} Series
 * @property {string} name
 * @property {string | number} hue
 * @property {"baseline" | "bound"} [kind]  what it is drawn as: dotted or dashed
 * @property {(number | null)[]} values
 */

/**
 * @param {object} chart
 * @param {string} chart.title
 * @param {string} chart.across  what the horizontal axis is
 * @param {(string | number)[]} chart.ticks  names of the places
 * @param {boolean} [chart.isSpaced]  places at their own values, not side by side
 * @param {(value: number) => string} chart.format
 * @param {number} [chart.most]  where the vertical axis ends
 * @param {Series[]} chart.series
 */
export function lineChart(chart) {
  const { title, series } = chart;
  const legend = el(
    "ul",
    { class: "legend" },
    ...series.map(({ name, hue, kind }) =>
      el("li", {}, el("span", { class: `key ${kind ?? ""}`, "data-hue": hue }), name),
    ),
  );
  return el(
    "figure",
    {},
    el("h3", { class: "chart-title" }, title),
    legend,
    fitted((width) => drawLines(chart, width)),
  );
}

/** @param {any} chart @param {number} width */
function drawLines({ title, across, ticks, isSpaced = false, format, most, series }, width) {
  const { height, left, right, top, bottom } = SIZE;
  const known = series.flatMap(({ values }) => values.filter((value) => value != null));
  const grid = scaleTo(most ?? Math.max(...known, 1e-6));
  const end = most ?? grid[grid.length - 1];
  const numbers = isSpaced ? ticks.map(Number) : range(ticks.length);
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  const x = (/** @type {number} */ at) =>
    left +
    ((width - left - right) * (numbers[at] - low)) / (high - low || 1) +
    (high === low ? (width - left - right) / 2 : 0);
  const y = (/** @type {number} */ value) => top + (height - top - bottom) * (1 - Math.min(value, end) / end);
  const drawn = svg("svg", {
    class: "chart",
    viewBox: `0 0 ${width} ${height}`,
    width,
    height,
    role: "img",
    "aria-label": `${title}; the table below has its numbers`,
  });
  for (const value of grid.filter((step) => step <= end)) {
    drawn.append(
      svg("line", { class: "axis", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      svg("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, format(value)),
    );
  }
  const needed = Math.max(...ticks.map((tick) => String(tick).length)) * 6.5 + 8;
  const every = Math.ceil((needed * (ticks.length - 1)) / (width - left - right)) || 1;
  ticks.forEach((tick, at) => {
    if (at % every === 0)
      drawn.append(svg("text", { x: x(at), y: height - bottom + 18, "text-anchor": "middle" }, String(tick)));
  });
  drawn.append(
    svg("text", { x: (left + width - right) / 2, y: height - 4, "text-anchor": "middle" }, across),
  );
  for (const { hue, kind, values } of series) {
    drawn.append(svg("path", { d: pathOf(values, x, y), class: kind ?? "", "data-hue": hue }));
    if (kind || values.length > 16) continue;
    values.forEach((value, at) => {
      if (value != null) drawn.append(svg("circle", { cx: x(at), cy: y(value), r: 3.5, "data-hue": hue }));
    });
  }
  return drawn;
}

/**
 * @param {(number | null)[]} values
 * @param {(at: number) => number} x
 * @param {(value: number) => number} y
 */
function pathOf(values, x, y) {
  let isDown = false;
  return values
    .map((value, at) => {
      if (value == null) return ((isDown = false), "");
      const move = isDown ? "L" : "M";
      isDown = true;
      return `${move}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    })
    .join("");
}
