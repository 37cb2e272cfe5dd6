/**
 * The page: which conversation is shown, what is under way, and what happens to both. Read
 * `conversation.js` for what a conversation is, `asking.js` for how a question is asked, `turn.js` for how it
 * looks, `panel.js` for the experts; everything that comes from the server passes `api.js`.
 */

import { getModel } from "./api.js";
import { Asking } from "./asking.js";
import { focusBox, setUpComposer, showButtons } from "./composer.js";
import { newConversation, newTurn, shownAnswer, title } from "./conversation.js";
import { button, byId, el, oncePerFrame } from "./dom.js";
import { closeRail, setUpFrame, showView } from "./frame.js";
import { dismiss, explain, keyWasTaken, notice, say } from "./notices.js";
import { Panel } from "./panel.js";
import { setUpSettings, setUpTheme } from "./settings.js";
import { deleteConversation, loadConversations, loadSettings, saveConversation } from "./store.js";
import { TurnView } from "./turn.js";

/** @typedef {import("./conversation.js").Turn} Turn */
/** @typedef {import("./api.js").ServerError} ServerError */

const SAVE_EVERY_MS = 1000;

const turnList = byId("turns");
const panel = new Panel();
const conversations = loadConversations();
let conversation = conversations[0] ?? newConversation();
/** @type {Map<Turn, TurnView>} */
const views = new Map();
/** @type {Asking | null} */
let asking = null;
/** @type {any} */
let model = null;

// --- what is shown -----------------------------------------------------------------------------------------

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
  document.title = conversation.turns.length ? `${title(conversation)} · araio` : "araio";
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
  showButtons(asking !== null, asking?.answer.state === "thinking");
});

// --- what is done ------------------------------------------------------------------------------------------

function keep() {
  conversation.changed = Date.now();
  if (saveConversation(conversation)) return;
  notice("The browser has no room left: delete old conversations, or this one goes with the tab.");
}

/** @param {import("./conversation.js").Conversation} other */
function open(other) {
  stop();
  conversation = other;
  showConversation();
  closeRail();
  focusBox();
}

/** @param {import("./conversation.js").Conversation} one */
function remove(one) {
  const at = conversations.indexOf(one);
  conversations.splice(at, 1);
  deleteConversation(one.id);
  if (one === conversation) open(newConversation());
  showList();
  const undo = () => {
    conversations.splice(at, 0, one);
    saveConversation(one);
    notice("");
    open(one);
  };
  notice(`“${title(one)}” was deleted.`, button("Undo", undo), dismiss());
}

/** Whether earlier turns go along: some models were taught single questions only. */
function sendsEarlier() {
  const { context } = loadSettings();
  return context ? context === "all" : model?.araio?.conversations !== false;
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
  // It may have been deleted meanwhile.
  if (conversations.includes(home)) saveConversation(home);
  views.get(turn)?.update();
  showButtons(false, false);
  if (panel.answer === mine.answer) panel.updateReceipt();
  if (trouble) explain(trouble, () => run(turn), connect);
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

async function answerNow() {
  if (!(await asking?.answerNow())) say("The thinking is over already.");
}

async function connect() {
  try {
    model = await getModel();
    await panel.describe(model);
    keyWasTaken();
  } catch (error) {
    explain(/** @type {ServerError} */ (error), connect, connect);
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
    showView("panel");
  },
  page(turn, shown) {
    turn.shown = shown;
    views.get(turn)?.update();
    inspect(turn);
    keep();
  },
  isBusy: () => asking !== null,
};

setUpTheme();
setUpFrame();
setUpSettings(connect);
setUpComposer({ ask, stop, answerNow, isBusy: () => asking !== null });
byId("new").addEventListener("click", () => open(newConversation()));
addEventListener("pagehide", () => asking && keep());
showConversation();
connect();
