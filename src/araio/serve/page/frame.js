/**
 * What a narrow window folds away: the conversations into a drawer, the panel behind a second button.
 */

import { byId } from "./dom.js";

/** On a phone, one of the two at a time. @param {"talk" | "panel"} name */
export function showView(name) {
  document.body.dataset.view = name;
  for (const choice of document.querySelectorAll("[data-shows]")) {
    choice.setAttribute("aria-pressed", String(choice.getAttribute("data-shows") === name));
  }
}

/** @param {boolean} isOpen */
function setRail(isOpen) {
  document.body.classList.toggle("shows-rail", isOpen);
  byId("menu").setAttribute("aria-expanded", String(isOpen));
  byId(isOpen ? "new" : "menu").focus();
}

/** @returns {boolean} whether it was open */
export function closeRail() {
  const wasOpen = document.body.classList.contains("shows-rail");
  if (wasOpen) setRail(false);
  return wasOpen;
}

export function setUpFrame() {
  byId("menu").addEventListener("click", () => closeRail() || setRail(true));
  byId("scrim").addEventListener("click", closeRail);
  for (const choice of document.querySelectorAll("[data-shows]")) {
    choice.addEventListener("click", () =>
      showView(choice.getAttribute("data-shows") === "panel" ? "panel" : "talk"),
    );
  }
  showView("talk");
}
