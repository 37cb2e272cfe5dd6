/**
 * Choices between a few views: radio buttons that look like words, and a list for more than a few.
 */

import { el } from "./dom.js";

let made = 0;

/**
 * @param {string} label
 * @param {Record<string, string>} choices  text by value; the first is chosen
 * @param {(value: string) => void} onchange
 */
export function choice(label, choices, onchange) {
  const name = `choice-${(made += 1)}`;
  const options = Object.entries(choices).map(([value, text], at) =>
    el(
      "label",
      {},
      el("input", { type: "radio", name, value, checked: at === 0, onchange: () => onchange(value) }),
      el("span", {}, text),
    ),
  );
  return el("fieldset", { class: "switch" }, el("legend", {}, label), ...options);
}

/**
 * @param {string} label
 * @param {[number, string][]} choices
 * @param {number} chosen
 * @param {(value: number) => void} onchange
 */
export function picker(label, choices, chosen, onchange) {
  const list = el("select", { onchange: () => onchange(Number(list.value)) });
  list.append(...choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
  return el("label", { class: "picker" }, el("span", {}, label), list);
}
