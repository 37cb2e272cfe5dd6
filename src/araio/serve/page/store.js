/**
 * What the browser keeps: conversations, settings and the theme for good, the key until the tab is closed.
 * Where there is no room, routes of old answers go first; words are never dropped.
 */

import { asLoaded, asSaved } from "./conversation.js";

/** @typedef {import("./conversation.js").Conversation} Conversation */
/**
 * @typedef {object} Settings  an empty string leaves the choice to the model
 * @property {string} temperature
 * @property {string} seed
 * @property {string} maxTokens
 * @property {string} thinkingBudget
 * @property {"" | "all" | "one"} context  whether earlier turns are sent along
 */

const PREFIX = "araio.conversation.";
const SETTINGS = "araio.settings";
const KEY = "araio.key";
const DRAFT = "araio.draft";

/** @type {Settings} */
const DEFAULTS = { temperature: "", seed: "", maxTokens: "", thinkingBudget: "", context: "" };

/**
 * @param {Storage} storage @param {string} name
 * @returns {any} what was kept, or null where it cannot be read
 */
function read(storage, name) {
  try {
    return JSON.parse(storage.getItem(name) ?? "null");
  } catch {
    return null;
  }
}

/** @returns {Settings} */
export const loadSettings = () => ({ ...DEFAULTS, ...read(localStorage, SETTINGS) });

/** @param {Settings} settings */
export const saveSettings = (settings) => localStorage.setItem(SETTINGS, JSON.stringify(settings));

export const loadKey = () => sessionStorage.getItem(KEY) ?? "";

/** @param {string} key */
export const saveKey = (key) => (key ? sessionStorage.setItem(KEY, key) : sessionStorage.removeItem(KEY));

export const loadDraft = () => sessionStorage.getItem(DRAFT) ?? "";

/** @param {string} text */
export const saveDraft = (text) => sessionStorage.setItem(DRAFT, text);

/** All of them, the newest first. @returns {Conversation[]} */
export function loadConversations() {
  return Object.keys(localStorage)
    .filter((name) => name.startsWith(PREFIX))
    .map((name) => read(localStorage, name))
    .filter((saved) => Array.isArray(saved?.turns))
    .map(asLoaded)
    .sort((one, other) => other.changed - one.changed);
}

/**
 * Keeps it, if need be without the experts of its tokens.
 * @param {Conversation} conversation
 * @returns {boolean} false where the browser has no room even for the words
 */
export function saveConversation(conversation) {
  for (const withRoutes of [true, false]) {
    try {
      localStorage.setItem(PREFIX + conversation.id, JSON.stringify(asSaved(conversation, withRoutes)));
      return true;
    } catch {
      dropOldRoutes(conversation.id);
    }
  }
  return false;
}

/** @param {string} id */
export const deleteConversation = (id) => localStorage.removeItem(PREFIX + id);

/** @param {string} keptId  whose routes stay */
function dropOldRoutes(keptId) {
  for (const conversation of loadConversations()) {
    if (conversation.id === keptId) continue;
    try {
      localStorage.setItem(PREFIX + conversation.id, JSON.stringify(asSaved(conversation, false)));
    } catch {
      return;
    }
  }
}
