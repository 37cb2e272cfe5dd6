/**
 * The box that questions are typed into, its buttons, and the keys that work everywhere. What was typed and
 * not asked outlives a reload.
 */

import { byId } from "./dom.js";
import { closeRail, showView } from "./frame.js";
import { loadDraft, saveDraft } from "./store.js";

/**
 * @typedef {object} ComposerActions
 * @property {(question: string) => void} ask
 * @property {() => void} stop
 * @property {() => void} answerNow
 * @property {() => boolean} isBusy
 */

const MOST_HEIGHT = 240;
const box = /** @type {HTMLTextAreaElement} */ (byId("box"));

export const focusBox = () => box.focus();

/** @param {boolean} isBusy @param {boolean} isThinking */
export function showButtons(isBusy, isThinking) {
  document.body.classList.toggle("is-busy", isBusy);
  byId("ask").hidden = isBusy;
  byId("stop").hidden = !isBusy;
  byId("answer-now").hidden = !isThinking;
}

/** @param {ComposerActions} actions */
export function setUpComposer(actions) {
  const fit = () => {
    box.style.height = "auto";
    box.style.height = `${Math.min(box.scrollHeight, MOST_HEIGHT)}px`;
  };
  const write = (/** @type {string} */ text) => {
    box.value = text;
    saveDraft(text);
    fit();
  };
  const submit = () => {
    const question = box.value.trim();
    if (!question || actions.isBusy()) return;
    write("");
    actions.ask(question);
  };
  byId("composer").addEventListener("submit", (/** @type {Event} */ event) => {
    event.preventDefault();
    submit();
  });
  box.addEventListener("input", () => write(box.value));
  box.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  byId("stop").addEventListener("click", () => {
    actions.stop();
    box.focus();
  });
  byId("answer-now").addEventListener("click", actions.answerNow);
  for (const example of document.querySelectorAll(".example")) {
    const question = example.querySelector("q")?.textContent ?? "";
    example.addEventListener("click", () => actions.isBusy() || actions.ask(question));
  }
  addEventListener("keydown", (event) => onKeyAnywhere(event, actions));
  write(loadDraft());
}

/** @param {KeyboardEvent} event @param {ComposerActions} actions */
function onKeyAnywhere(event, actions) {
  const isTyping = event.target instanceof Element && event.target.matches("input, textarea, select");
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape" && !closeRail()) actions.stop();
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey) {
    event.preventDefault();
    showView("talk");
    box.focus();
  }
}
