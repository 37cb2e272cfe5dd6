/**
 * One turn on the page: the question, the thinking that folds when the answer begins, the answer, and what
 * can be done with them.
 */

import { isRunning, reasoningTokens, shownAnswer } from "./conversation.js";
import { button, el, setText } from "./dom.js";
import { renderMarkdown } from "./markdown.js";
import { dismiss, notice, say } from "./notices.js";
import { receiptLine } from "./receipt.js";
import { plural, seconds } from "./units.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./conversation.js").Answer} Answer */
/**
 * @typedef {object} TurnActions
 * @property {(turn: Turn) => void} askAgain
 * @property {(turn: Turn, question: string) => void} edit
 * @property {(turn: Turn) => number} turnsBelow
 * @property {(turn: Turn) => void} inspect
 * @property {(turn: Turn, shown: number) => void} page
 * @property {() => boolean} isBusy
 */

const COPIED_MS = 1500;

export class TurnView {
  /** The fold that the person chose; null leaves it to the page. @type {boolean | null} */
  fold = null;

  /** @param {Turn} turn @param {number} number @param {TurnActions} actions */
  constructor(turn, number, actions) {
    this.turn = turn;
    this.actions = actions;
    this.question = el("h2", { class: "question", tabindex: -1 });
    this.ask = el("div", { class: "ask" }, this.question);
    this.summary = el("summary");
    this.scratch = el("div", { class: "scratch" });
    this.thinking = el("details", { class: "thinking", hidden: true }, this.summary, this.scratch);
    this.summary.addEventListener("click", () => (this.fold = !this.thinking.open));
    this.waiting = el("p", { class: "waiting" }, "Waiting for the first token");
    this.prose = el("div", { class: "prose" });
    this.trouble = el("p", { class: "trouble" });
    this.receipt = el("button", {
      type: "button",
      class: "receipt-line",
      onclick: () => actions.inspect(turn),
      "aria-label": "Show the experts and the receipt of this answer",
    });
    this.pager = el("span", { class: "pager" });
    this.copyButton = button("Copy", () => this.copy(), { "aria-label": "Copy the answer" });
    this.tools = el("div", { class: "tools" });
    this.element = el(
      "article",
      { class: "turn", "aria-label": `Question ${number}` },
      el("span", { class: "number", "aria-hidden": "true" }, String(number)),
      this.ask,
      this.thinking,
      this.waiting,
      this.prose,
      this.trouble,
      el("footer", {}, this.receipt, this.tools),
    );
    this.tools.append(
      this.pager,
      this.copyButton,
      button("Again", () => actions.askAgain(turn), { "aria-label": "Ask the question again" }),
      button("Edit", () => this.startEdit(), { "aria-label": "Edit the question" }),
    );
    this.update();
  }

  update() {
    const answer = shownAnswer(this.turn);
    setText(this.question, this.turn.question);
    this.question.classList.toggle("long", this.turn.question.length > 140);
    this.element.dataset.state = answer?.state ?? "none";
    this.waiting.hidden = answer?.state !== "waiting";
    this.trouble.hidden = !answer?.trouble && !this.note(answer);
    setText(this.trouble, answer?.trouble || this.note(answer));
    this.tools.hidden = answer !== null && isRunning(answer);
    if (answer) this.updateThinking(answer);
    this.thinking.hidden = !answer?.reasoning;
    renderMarkdown(this.prose, answer?.content.trim() ?? "");
    this.prose.hidden = !answer?.content;
    setText(this.receipt, answer && !isRunning(answer) ? receiptLine(answer) : "");
    this.receipt.hidden = !this.receipt.textContent;
    this.updatePager();
  }

  /** @param {Answer | null} answer */
  note(answer) {
    if (answer?.state === "stopped") return "Stopped.";
    if (answer?.finish === "length")
      return answer.content ? "Cut off at the token limit." : "The token limit came before the answer.";
    return "";
  }

  /** @param {Answer} answer */
  updateThinking(answer) {
    const isThinking = answer.state === "thinking";
    const count = reasoningTokens(answer);
    const time = seconds(
      isThinking && answer.thinkingStart !== null
        ? performance.now() - answer.thinkingStart
        : answer.thinkingMs,
    );
    const verb = isThinking ? "Thinking" : "Thought";
    setText(this.summary, `${verb} for ${time}${count ? `, ${plural(count, "token")}` : ""}`);
    setText(this.scratch, answer.reasoning);
    // Without an answer the thinking is all there is to see.
    this.thinking.open = this.fold ?? (isThinking || !answer.content);
    if (isThinking) this.scratch.scrollTop = this.scratch.scrollHeight;
  }

  updatePager() {
    const { answers, shown } = this.turn;
    this.pager.hidden = answers.length < 2;
    if (answers.length < 2) return this.pager.replaceChildren();
    const turnTo = (/** @type {number} */ index) => this.actions.page(this.turn, index);
    this.pager.replaceChildren(
      button("‹", () => turnTo(shown - 1), { "aria-label": "The answer before", disabled: shown === 0 }),
      `${shown + 1} of ${answers.length}`,
      button("›", () => turnTo(shown + 1), {
        "aria-label": "The answer after",
        disabled: shown === answers.length - 1,
      }),
    );
  }

  async copy() {
    const answer = shownAnswer(this.turn);
    try {
      await navigator.clipboard.writeText(answer?.content.trim() || answer?.reasoning || "");
      say("The answer was copied.");
      this.copyButton.textContent = "Copied";
      setTimeout(() => (this.copyButton.textContent = "Copy"), COPIED_MS);
    } catch {
      notice("The browser lets the page copy nothing; select the text instead.", dismiss());
    }
  }

  startEdit() {
    if (this.actions.isBusy()) return;
    const below = this.actions.turnsBelow(this.turn);
    const box = el("textarea", {
      class: "edit",
      rows: Math.min(8, this.turn.question.split("\n").length + 1),
      "aria-label": "The question",
    });
    box.value = this.turn.question;
    const end = () => {
      this.ask.replaceChildren(this.question);
      this.question.focus();
    };
    const send = () => {
      const question = box.value.trim();
      if (!question) return;
      end();
      this.actions.edit(this.turn, question);
    };
    const form = el(
      "form",
      { onsubmit: (/** @type {Event} */ event) => (event.preventDefault(), send()) },
      box,
      el(
        "div",
        { class: "tools" },
        el("button", { class: "solid" }, "Ask"),
        button("Cancel", end),
        below > 0 && el("span", { class: "faint" }, `replaces ${plural(below, "turn")} below`),
      ),
    );
    box.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
      if (event.key === "Escape") (event.stopPropagation(), end());
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) (event.preventDefault(), send());
    });
    this.ask.replaceChildren(form);
    box.focus();
  }
}
