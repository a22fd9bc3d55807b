// The vote. `props.value` is {pair, choice, note, status}; a click triggers 'vote' with {choice, note, token}. The token is new for
// each submission, so that one that arrives twice is saved once.

import { localText } from "../shared/dates.js";
import { isFreeKey, listen, newToken } from "../shared/dom.js";

export function mount({ element, props, trigger, watch }) {
  const form = element.querySelector(".vote");
  const note = form.querySelector(".vote-note");
  const buttons = [...form.querySelectorAll("[data-choice]")];
  let shownPair = null;

  function send(choice) {
    form.classList.add("is-sending");
    trigger("vote", { choice, note: note.value.trim(), token: newToken() });
  }

  function show() {
    const vote = props.value || {};
    form.classList.remove("is-sending");
    buttons.forEach((button) => {
      button.disabled = vote.pair === null || vote.pair === undefined;
      button.setAttribute("aria-pressed", String(button.dataset.choice === vote.choice));
    });
    form.querySelector(".vote-status").textContent = localText(vote.status || "");
    if (vote.pair !== shownPair) { note.value = vote.note || ""; shownPair = vote.pair; }
  }

  buttons.forEach((button) => button.addEventListener("click", () => send(button.dataset.choice)));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    // Enter in the note saves it with the vote that was already given.
    const pressed = buttons.find((button) => button.getAttribute("aria-pressed") === "true");
    if (pressed) send(pressed.dataset.choice);
  });
  listen(element, "keydown", (event) => {
    const button = isFreeKey(event) && buttons.find((choice) => choice.dataset.key === event.key);
    if (!button || button.disabled) return;
    event.preventDefault();
    send(button.dataset.choice);
  });
  watch("value", show);
  show();
}
