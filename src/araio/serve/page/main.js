/**
 * The page: wires the composer, the conversation, the panel beside it and what the browser keeps. Read
 * `conversation.js` for what a conversation is, `asking.js` for how a question is asked, `panel.js` for the
 * experts; everything that comes from the server passes `api.js`.
 */

import { getModel, isThere } from "./api.js";
import { Asking } from "./asking.js";
import { newConversation, newTurn, shownAnswer, title } from "./conversation.js";
import { button, byId, el, oncePerFrame } from "./dom.js";
import { Panel } from "./panel.js";
import { openSettings, setUpSettings, setUpTheme } from "./settings.js";
import {
  deleteConversation,
  loadConversations,
  loadDraft,
  loadSettings,
  saveConversation,
  saveDraft,
} from "./store.js";
import { TurnView } from "./turn.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./api.js").ServerError} ServerError */

const SAVE_EVERY_MS = 1000;
const LOOK_EVERY_MS = 2000;

const box = /** @type {HTMLTextAreaElement} */ (byId("box"));
const turnList = byId("turns");
const panel = new Panel();
let conversations = loadConversations();
let conversation = conversations[0] ?? newConversation();
/** @type {Map<Turn, TurnView>} */
const views = new Map();
/** @type {Asking | null} */
let asking = null;
/** @type {any} */
let model = null;
let needsKey = false;

// --- what is shown -----------------------------------------------------------------------------------------

/** @param {string} text */
function say(text) {
  byId("status").textContent = text;
}

/** A line above the box, with what can be done about it. @param {string} text @param {...Node} actions */
function notice(text, ...actions) {
  byId("notice").hidden = !text;
  byId("notice").replaceChildren(...(text ? [el("p", {}, text), ...actions] : []));
}

/** @param {Turn} turn */
const nameOf = (turn) => `answer ${conversation.turns.indexOf(turn) + 1}`;

/** @param {Turn | undefined} turn */
function inspect(turn) {
  panel.show(turn ? shownAnswer(turn) : null, turn ? nameOf(turn) : "");
  for (const [other, view] of views) view.element.toggleAttribute("data-inspected", other === turn);
}

function showConversation() {
  views.clear();
  for (const [index, turn] of conversation.turns.entries())
    views.set(turn, new TurnView(turn, index + 1, actions));
  turnList.replaceChildren(...[...views.values()].map((view) => view.element));
  document.body.classList.toggle("is-empty", conversation.turns.length === 0);
  inspect(conversation.turns.at(-1));
  showList();
  turnList.scrollTop = turnList.scrollHeight;
}

function showList() {
  const entries = conversations.map((one) =>
    el(
      "li",
      { "aria-current": one === conversation ? "true" : null },
      button(title(one), () => open(one), { class: "entry" }),
      button("×", () => remove(one), { class: "delete", "aria-label": `Delete ${title(one)}` }),
    ),
  );
  byId("conversations").replaceChildren(...entries);
}

const isAtEnd = () => turnList.scrollHeight - turnList.scrollTop - turnList.clientHeight < 80;

const grow = oncePerFrame(() => {
  const follow = isAtEnd();
  if (asking) views.get(asking.turn)?.update();
  if (follow) turnList.scrollTop = turnList.scrollHeight;
  showButtons();
});

function showButtons() {
  document.body.classList.toggle("is-busy", asking !== null);
  byId("ask").hidden = asking !== null;
  byId("stop").hidden = asking === null;
  byId("answer-now").hidden = asking?.answer.state !== "thinking";
}

// --- what is done ------------------------------------------------------------------------------------------

function keep() {
  conversation.changed = Date.now();
  if (!saveConversation(conversation))
    notice(
      "The browser has no room left: delete old conversations, or this one is lost when the tab closes.",
    );
}

/** @param {import("./conversation.js").Conversation} other */
function open(other) {
  stop();
  conversation = other;
  showConversation();
  document.body.classList.remove("shows-rail");
  box.focus();
}

function startNew() {
  open(newConversation());
}

/** @param {import("./conversation.js").Conversation} one */
function remove(one) {
  const at = conversations.indexOf(one);
  conversations.splice(at, 1);
  deleteConversation(one.id);
  if (one === conversation) startNew();
  showList();
  const undo = () => {
    conversations.splice(at, 0, one);
    saveConversation(one);
    notice("");
    open(one);
  };
  notice(
    `“${title(one)}” was deleted.`,
    button("Undo", undo),
    button("Dismiss", () => notice("")),
  );
}

/** Whether earlier turns go along: pocket was taught single questions only. */
function sendsEarlier() {
  const { context } = loadSettings();
  return context ? context === "all" : model?.id !== "pocket";
}

/** @param {string} question */
function ask(question) {
  const turn = newTurn(question);
  conversation.turns.push(turn);
  if (!conversations.includes(conversation)) conversations.unshift(conversation);
  return run(turn);
}

/** @param {Turn} turn */
async function run(turn) {
  if (asking) return;
  notice("");
  const mine = (asking = new Asking(turn, (tokens) => {
    if (panel.answer === mine.answer) panel.add(tokens);
    announce(mine.answer.state);
    grow();
  }));
  const home = conversation;
  showConversation();
  keep();
  const saving = setInterval(keep, SAVE_EVERY_MS);
  const ticking = setInterval(grow, 100);
  const trouble = await mine.run(model?.id, home, loadSettings(), sendsEarlier());
  clearInterval(saving);
  clearInterval(ticking);
  asking = null;
  home.changed = Date.now();
  saveConversation(home);
  views.get(turn)?.update();
  showButtons();
  if (panel.answer === mine.answer) panel.updateReceipt();
  if (trouble) explain(trouble, () => run(turn));
  else say(mine.answer.state === "stopped" ? "Stopped." : `The answer is: ${mine.answer.content.trim()}`);
}

let announced = "";

/** Says the stages of an answer once each; the words are read when it is over. @param {string} state */
function announce(state) {
  if (state === announced) return;
  announced = state;
  if (state === "thinking") say("Thinking.");
  if (state === "answering") say("Answering.");
}

function stop() {
  asking?.stop();
}

/** @param {ServerError} trouble @param {() => void} retry */
function explain(trouble, retry) {
  if (trouble.kind === "key") {
    needsKey = true;
    notice(
      "This server asks for a key.",
      button("Enter the key", () => openSettings("key")),
    );
  } else if (trouble.kind === "away") {
    notice("The server is away. Your conversation is kept in this browser.", button("Retry", retry));
    awaitReturn(retry);
  } else if (trouble.kind === "busy") {
    const wait = trouble.retryAfter ? ` It asks for ${trouble.retryAfter} s of patience.` : "";
    notice(`The server is busy.${wait}`, button("Retry", retry));
  } else {
    notice(
      trouble.message,
      button("Dismiss", () => notice("")),
    );
  }
}

let lookout = 0;

/** Looks for the server until it is back. @param {() => void} retry */
function awaitReturn(retry) {
  clearInterval(lookout);
  lookout = setInterval(async () => {
    if (asking) return clearInterval(lookout);
    if (!(await isThere())) return;
    clearInterval(lookout);
    notice(
      "The server is back.",
      button("Retry", retry),
      button("Dismiss", () => notice("")),
    );
    connect();
  }, LOOK_EVERY_MS);
}

async function connect() {
  try {
    model = await getModel();
    await panel.describe(model);
    if (needsKey) notice("");
    needsKey = false;
  } catch (error) {
    explain(/** @type {ServerError} */ (error), () => (notice(""), connect()));
  }
}

/** @type {import("./turn.js").TurnActions} */
const actions = {
  askAgain: run,
  edit(turn, question) {
    conversation.turns.length = conversation.turns.indexOf(turn);
    ask(question);
  },
  turnsBelow: (turn) => conversation.turns.length - conversation.turns.indexOf(turn) - 1,
  inspect(turn) {
    inspect(turn);
    showTab("panel");
  },
  page(turn, shown) {
    turn.shown = shown;
    views.get(turn)?.update();
    inspect(turn);
    keep();
  },
  isBusy: () => asking !== null,
  say,
};

// --- the keyboard, the buttons, the start ------------------------------------------------------------------

/** On a phone, one of the two at a time. @param {string} name */
function showTab(name) {
  document.body.dataset.tab = name;
  for (const tab of document.querySelectorAll("[role=tab]")) {
    tab.setAttribute("aria-selected", String(tab.getAttribute("aria-controls") === name));
  }
}

function fitBox() {
  box.style.height = "auto";
  box.style.height = `${Math.min(box.scrollHeight, 240)}px`;
}

function submit() {
  const question = box.value.trim();
  if (!question || asking) return;
  box.value = "";
  saveDraft("");
  fitBox();
  ask(question);
}

byId("composer").addEventListener(
  "submit",
  (/** @type {Event} */ event) => (event.preventDefault(), submit()),
);
box.addEventListener("input", () => (saveDraft(box.value), fitBox()));
box.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) (event.preventDefault(), submit());
});
addEventListener("keydown", (event) => {
  const isTyping = event.target instanceof Element && event.target.matches("input, textarea, select");
  if (event.key === "Escape" && asking && !document.querySelector("dialog[open]")) stop();
  if (event.key === "/" && !isTyping && !event.ctrlKey && !event.metaKey)
    (event.preventDefault(), showTab("talk"), box.focus());
});
byId("stop").addEventListener("click", () => (stop(), box.focus()));
byId("answer-now").addEventListener("click", async () => {
  if (!(await asking?.answerNow())) say("The thinking is over already.");
});
byId("new").addEventListener("click", startNew);
byId("menu").addEventListener("click", () => document.body.classList.toggle("shows-rail"));
byId("scrim").addEventListener("click", () => document.body.classList.remove("shows-rail"));
for (const tab of document.querySelectorAll("[role=tab]")) {
  tab.addEventListener("click", () => showTab(tab.getAttribute("aria-controls") ?? "talk"));
}
for (const example of document.querySelectorAll(".example")) {
  example.addEventListener("click", () => asking || ask(example.querySelector("q")?.textContent ?? ""));
}
addEventListener("pagehide", () => asking && keep());

setUpTheme();
setUpSettings(connect);
box.value = loadDraft();
fitBox();
showTab("talk");
showConversation();
showButtons();
connect();
