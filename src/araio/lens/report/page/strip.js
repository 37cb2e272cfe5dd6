/**
 * The tokens themselves: each has a background by whom the first of its experts serves, in a layer that may
 * be chosen, and says which experts it was given to when it is pointed at or reached with the arrow keys.
 */

import { picker } from "./controls.js";
import { el, range, section } from "./dom.js";
import { plural } from "./numbers.js";

/** @typedef {import("./model.js").View} View */

const NO_TEXT = " The text was not recorded, or its tokenizer is not at hand: tokens are shown by number.";

/** @param {View} view */
export function strip(view) {
  if (!view.strip) return null;
  const { tokens, texts } = view.strip;
  const shown = new Strip(view);
  const layer = picker(
    "Colour by layer",
    view.layers.map((number, row) => [row, String(number)]),
    shown.row,
    (row) => shown.colour(row),
  );
  const hues = view.specialisation
    ? el(
        "ul",
        { class: "legend" },
        ...view.domains.map(({ name }, index) =>
          el("li", {}, el("span", { class: "swatch", "data-hue": index }), name),
        ),
      )
    : null;
  return section(
    "tokens",
    "Token by token",
    `${plural(tokens, "token")} of the trace, from the beginning of sequences of each domain. A token ` +
      "has the colour of the domain that the first of its experts serves in the chosen " +
      `layer${view.specialisation ? "; no colour where that expert serves none more than another" : ""}. ` +
      "Grey text is the " +
      `prompt.${texts ? "" : NO_TEXT}`,
    el("div", { class: "controls" }, layer, hues),
    el("div", { class: "reading" }, shown.list, shown.detail),
  );
}

class Strip {
  /** @type {HTMLElement | null} */
  current = null;

  /** @param {View} view */
  constructor(view) {
    this.view = view;
    this.row = Math.floor(view.layers.length / 2);
    this.detail = el("div", { class: "token-detail", id: "token-detail", "aria-live": "polite" });
    this.list = el("div", {
      class: "strip",
      role: "listbox",
      "aria-label": "Tokens; arrow keys walk over them",
    });
    /** @type {HTMLElement[]} */
    this.elements = [];
    let before = null;
    for (const at of range(view.strip.tokens)) {
      const seq = view.strip.seq[at];
      if (seq !== before)
        this.list.append(
          el(
            "h3",
            { role: "presentation" },
            `${view.domains[view.strip.domain[at]].name}, sequence ${seq + 1}`,
          ),
        );
      before = seq;
      this.append(at);
    }
    this.list.addEventListener("pointerover", (event) => this.look(tokenOf(event.target), false));
    this.list.addEventListener("focusin", (event) => this.look(tokenOf(event.target), true));
    this.list.addEventListener("keydown", (event) => this.step(event));
    this.detail.append(
      el(
        "p",
        {},
        "Point at a token, or walk along them with the arrow keys, to see its experts and their " +
          "weights in every layer.",
      ),
    );
    this.colour(this.row);
  }

  /** @param {number} at */
  append(at) {
    const text = this.textOf(at);
    const element = el(
      "span",
      {
        class: "token",
        role: "option",
        "aria-selected": "false",
        tabindex: at === 0 ? 0 : -1,
        "data-segment": this.view.strip.segment[at],
        "aria-label": text.trim() ? null : text.includes("\n") ? "line end" : "space",
      },
      visible(text),
    );
    this.elements.push(element);
    this.list.append(element);
  }

  /** @param {number} at */
  textOf(at) {
    const { texts, vocabulary, ids } = this.view.strip;
    return texts ? vocabulary[texts[at]] : `${ids ? ids[at] : at} `;
  }

  /** The hue of whom an expert serves, or null. @param {number} row @param {number} expert */
  hueOf(row, expert) {
    const owner = this.view.specialisation?.serves[row][expert];
    return owner == null ? null : String(owner);
  }

  /** @param {number} row */
  colour(row) {
    this.row = row;
    this.elements.forEach((element, at) => {
      const hue = this.hueOf(row, this.view.strip.experts[at][row][0]);
      if (hue === null) delete element.dataset.hue;
      else element.dataset.hue = hue;
    });
  }

  /** @param {HTMLElement | null} element @param {boolean} holds  whether Tab comes back to it */
  look(element, holds) {
    if (!element || (element === this.current && !holds)) return;
    this.current?.setAttribute("aria-selected", "false");
    this.current = element;
    element.setAttribute("aria-selected", "true");
    if (holds) {
      this.list.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
      element.setAttribute("tabindex", "0");
      element.setAttribute("aria-describedby", "token-detail");
    }
    this.detail.replaceChildren(this.describe(this.elements.indexOf(element)));
  }

  /** @param {KeyboardEvent} event */
  step(event) {
    const at = this.elements.indexOf(/** @type {HTMLElement} */ (document.activeElement));
    const last = this.elements.length - 1;
    const goals = /** @type {Record<string, number>} */ ({
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: last,
    });
    const goal = goals[event.key];
    if (goal === undefined || at < 0) return;
    event.preventDefault();
    this.elements[Math.max(0, Math.min(last, goal))].focus();
  }

  /** @param {number} at @returns {Element} */
  describe(at) {
    const { strip: found, layers, domains } = this.view;
    const rows = layers.map((layer, row) => {
      const weights = found.weights?.[at][row];
      const most = weights?.[0] || 1;
      const cells = found.experts[at][row].map((expert, k) => {
        const bar =
          weights && el("i", { "data-hue": this.hueOf(row, expert) ?? "none", "aria-hidden": "true" });
        bar?.style.setProperty("--share", String(weights[k] / most));
        return el(
          "td",
          {},
          el("b", {}, String(expert)),
          weights ? el("span", {}, weights[k].toFixed(2)) : null,
          bar ?? null,
        );
      });
      return el("tr", {}, el("th", { scope: "row" }, String(layer)), ...cells);
    });
    const kind = ["prompt", "thinking", "answer"][found.segment[at]];
    const caption = el(
      "caption",
      {},
      "Token ",
      el("q", {}, visible(this.textOf(at))),
      `, ${domains[found.domain[at]].name}, ${kind}: its ` +
        `experts${found.weights ? " and their weights" : ""}, a row for each layer`,
    );
    return el("table", {}, caption, el("tbody", {}, ...rows));
  }
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
const tokenOf = (target) =>
  target instanceof Element ? /** @type {HTMLElement | null} */ (target.closest(".token")) : null;

/** Line ends are seen, and still end lines; control tokens are told by their name. @param {string} text */
const visible = (text) =>
  text === ""
    ? "∅"
    : text
        .replace(/^<｜(.+)｜>$/, (_, name) => `⟨${name.replaceAll("▁", " ").replaceAll("_", " ")}⟩`)
        .replaceAll("\n", "↵\n")
        .replaceAll("\t", "⇥");
