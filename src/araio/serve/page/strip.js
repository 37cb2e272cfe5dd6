/**
 * The strip of an answer's tokens: one at a time may be looked at, by pointing or with the arrow keys, and
 * says which experts it was given to.
 */

import { byId, el, oncePerFrame } from "./dom.js";
import { hueOf } from "./lights.js";

/** @typedef {import("./conversation.js").Token} Token */

/** More than that slow a page down; the last ones are shown. */
const MOST_SHOWN = 3000;

export class TokenStrip {
  /** @type {Token[]} */
  tokens = [];
  first = 0;
  /** @type {import("./lights.js").Shape} */
  shape = { layers: [], n_experts: 0, top_k: 0, domains: null };
  /** @type {HTMLElement | null} */
  current = null;

  /** @param {(token: Token | null) => void} onlook */
  constructor(onlook) {
    this.list = /** @type {HTMLElement} */ (byId("strip"));
    this.detail = byId("token-detail");
    this.onlook = onlook;
    this.follow = oncePerFrame(() => (this.list.scrollTop = this.list.scrollHeight));
    this.list.addEventListener("pointerover", (event) => this.look(tokenElement(event.target), false));
    this.list.addEventListener("pointerleave", () => this.look(this.focused(), false));
    this.list.addEventListener("focusin", (event) => this.look(tokenElement(event.target), true));
    this.list.addEventListener("focusout", () => this.look(null, false));
    this.list.addEventListener("keydown", (event) => this.step(event));
  }

  /** @param {Token[]} tokens @param {string} emptyText */
  show(tokens, emptyText) {
    this.look(null, false);
    this.tokens = [];
    this.first = Math.max(0, tokens.length - MOST_SHOWN);
    this.list.replaceChildren();
    this.list.dataset.empty = emptyText;
    this.detail.style.minHeight = "";
    for (const token of tokens.slice(this.first)) this.append(token);
    this.hint();
  }

  /** One more token has come. @param {Token} token */
  add(token) {
    this.append(token);
    if (!this.current) this.follow();
  }

  /** @param {Token} token */
  append(token) {
    const before = this.tokens.at(-1);
    const starts = before !== undefined && before.phase !== token.phase;
    const element = el(
      "span",
      {
        class: "token",
        role: "option",
        "aria-selected": "false",
        tabindex: this.tokens.length ? -1 : 0,
        "data-phase": token.phase,
        "data-starts": starts,
        "aria-label": token.text.trim() ? null : token.text.includes("\n") ? "line end" : "space",
      },
      visible(token.text),
    );
    this.tokens.push(token);
    this.list.append(element);
    if (this.tokens.length === 1) this.hint();
    if (this.tokens.length > MOST_SHOWN) {
      const gone = this.list.firstElementChild;
      if (gone?.getAttribute("tabindex") === "0") gone.nextElementSibling?.setAttribute("tabindex", "0");
      gone?.remove();
      this.tokens.shift();
      this.first += 1;
    }
  }

  focused() {
    return this.list.contains(document.activeElement) ? tokenElement(document.activeElement) : null;
  }

  /** @param {HTMLElement | null} element @param {boolean} holds  whether Tab comes back to it */
  look(element, holds) {
    if (element === this.current && !holds) return;
    this.current?.setAttribute("aria-selected", "false");
    this.current = element;
    const index = element ? [...this.list.children].indexOf(element) : -1;
    const token = this.tokens[index] ?? null;
    if (element) {
      element.setAttribute("aria-selected", "true");
      if (holds) {
        this.list.querySelector("[tabindex='0']")?.setAttribute("tabindex", "-1");
        element.setAttribute("tabindex", "0");
        element.setAttribute("aria-describedby", "token-detail");
      }
    }
    this.onlook(token);
    // The room for it stays, so that what is below does not jump while the pointer wanders.
    this.detail.style.minHeight = `${this.detail.offsetHeight}px`;
    if (token) this.detail.replaceChildren(this.describe(token, this.first + index + 1));
    else this.hint();
  }

  hint() {
    const text = "Point at a token, or walk along them with the arrow keys.";
    this.detail.replaceChildren(...(this.tokens.length ? [el("p", { class: "faint" }, text)] : []));
  }

  /** @param {KeyboardEvent} event */
  step(event) {
    const at = [...this.list.children].indexOf(/** @type {Element} */ (document.activeElement));
    const last = this.list.children.length - 1;
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
    /** @type {HTMLElement} */ (this.list.children[Math.max(0, Math.min(last, goal))]).focus();
  }

  /** @param {Token} token @param {number} number @returns {Element} */
  describe(token, number) {
    const rows = token.experts.map((ids, row) => {
      const order = ids
        .map((id, k) => ({ id, weight: token.weights[row][k] }))
        .sort((one, other) => other.weight - one.weight);
      const most = order[0]?.weight || 1;
      const cells = order.map(({ id, weight }) => {
        const domain = this.shape.domains?.experts[row]?.[id];
        const bar = el("i", {
          class: "weight",
          "data-hue": hueOf(this.shape, domain),
          "aria-hidden": "true",
        });
        bar.style.setProperty("--share", String(weight / most));
        return el("td", {}, el("b", {}, String(id)), el("span", {}, weight.toFixed(2)), bar);
      });
      return el("tr", {}, el("th", { scope: "row" }, String(this.shape.layers[row] ?? row)), ...cells);
    });
    const kind = token.phase === "reasoning" ? "thinking" : "answer";
    return el(
      "table",
      { class: "experts" },
      el(
        "caption",
        {},
        `Token ${number}, `,
        el("q", {}, visible(token.text)),
        `, ${kind}: experts and their weights by layer`,
      ),
      el("tbody", {}, ...rows),
    );
  }
}

/** @param {EventTarget | null} target @returns {HTMLElement | null} */
const tokenElement = (target) =>
  target instanceof Element ? /** @type {HTMLElement | null} */ (target.closest(".token")) : null;

/** Line ends are seen, and still end lines; control tokens are told by their name. @param {string} text */
const visible = (text) =>
  text === ""
    ? "∅"
    : text
        .replace(/^<｜(.+)｜>$/, controlName)
        .replaceAll("\n", "↵\n")
        .replaceAll("\t", "⇥");

/** @param {string} _ @param {string} name */
const controlName = (_, name) => `⟨${name.replaceAll("▁", " ")}⟩`;
