/**
 * The dialog of settings, and the theme. What is left empty is the model's to choose.
 */

import { byId } from "./dom.js";
import { loadKey, loadSettings, saveKey, saveSettings } from "./store.js";

const FIELDS = /** @type {const} */ (["temperature", "seed", "maxTokens", "thinkingBudget", "context"]);

/** @param {() => void} onsave */
export function setUpSettings(onsave) {
  const dialog = /** @type {HTMLDialogElement} */ (byId("settings"));
  const form = /** @type {HTMLFormElement} */ (byId("settings-form"));
  byId("open-settings").addEventListener("click", () => openSettings());
  byId("close-settings").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    saveSettings(
      /** @type {any} */ (Object.fromEntries(FIELDS.map((name) => [name, byId(`set-${name}`).value.trim()]))),
    );
    saveKey(byId("set-key").value.trim());
    dialog.close();
    onsave();
  });
}

/** @param {string} [focus]  the field that is asked for */
export function openSettings(focus) {
  const settings = loadSettings();
  for (const name of FIELDS) byId(`set-${name}`).value = settings[name];
  byId("set-key").value = loadKey();
  byId("settings").showModal();
  if (focus) byId(`set-${focus}`).focus();
}

const THEMES = ["auto", "light", "dark"];

export function setUpTheme() {
  const toggle = byId("theme");
  const show = () => {
    const theme = document.documentElement.dataset.theme ?? "auto";
    toggle.textContent = `Theme: ${theme}`;
  };
  toggle.addEventListener("click", () => {
    const theme = document.documentElement.dataset.theme ?? "auto";
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    document.documentElement.dataset.theme = next;
    localStorage.setItem("araio.theme", next);
    show();
    dispatchEvent(new Event("resize"));
  });
  show();
}
