/**
 * Elements, made from text only: what a model or a tokenizer said never becomes markup.
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with its attributes, listeners (`onclick`, ...) and children. `null` and `false` are left out.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...(Node | string | null | false)} children
 * @returns {any}
 */
export function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/**
 * The same for what is drawn.
 * @param {string} tag
 * @param {Record<string, any>} [attributes]
 * @param {...any} children
 */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** @param {any} element @param {Record<string, any>} attributes @param {any[]} children */
function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== false));
  return element;
}

/** The element of that id, which the page has. @param {string} id @returns {any} */
export function byId(id) {
  const element = document.getElementById(id);
  if (!element) throw new Error(`the page has no #${id}`);
  return element;
}

/** A part of the page: a heading, what it says in one or two sentences, and the rest. */
export function section(id, title, lead, ...children) {
  return el(
    "section",
    { id, "aria-labelledby": `${id}-title` },
    el("h2", { id: `${id}-title` }, title),
    el(
      "div",
      { class: "lead" },
      ...[lead].flat().map((text) => (text instanceof Node ? text : el("p", {}, text))),
    ),
    ...children,
  );
}

/** Calls `draw` once before the next frame, however often it is asked to. @param {() => void} draw */
export function oncePerFrame(draw) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      draw();
    });
  };
}

/**
 * A frame whose drawing is made for the width that it has, so that letters keep their size on a phone.
 * @param {(width: number) => Element} draw
 */
export function fitted(draw) {
  let drawn = 0;
  const frame = el("div", { class: "fitted" });
  const redraw = oncePerFrame(() => {
    const width = Math.round(frame.clientWidth);
    if (!width || width === drawn) return;
    drawn = width;
    frame.replaceChildren(draw(width));
  });
  new ResizeObserver(redraw).observe(frame);
  return frame;
}

/** What draws on a canvas draws again when colours change. @type {Set<() => void>} */
export const onTheme = new Set();

/** Numbers from 0 to n - 1. @param {number} n */
export const range = (n) => Array.from({ length: n }, (_, at) => at);
