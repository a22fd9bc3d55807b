// Keys and buttons of the Label page. The player's own keys are in synced_pair.js.

import { CHOICE_KEYS, SCORE_KEYS } from "./form.js";
import { SIDES } from "./markup.js";

const CLOSES = { history: "h", guidelines: "g", compare: "ct", help: "?" };  // the key that opened a panel closes it too

const isText = (node) => node.isContentEditable || node.tagName === "TEXTAREA" || node.tagName === "SELECT"
  || (node.tagName === "INPUT" && !["range", "button", "checkbox", "radio"].includes(node.type));

// On a layout without these characters on these keys, the key's position decides.
function nameOf(event, keys) {
  const key = event.key.toLowerCase();
  if (keys[key] || event.shiftKey) return key;
  const position = /^(?:Key([A-Z])|Digit(\d))$/.exec(event.code || "");
  return position ? (position[1] || position[2]).toLowerCase() : key;
}

function buttonActs(session) {
  const { dialogs } = session;
  const inCampaign = (act) => () => { if (session.campaign) act(session.campaign); };
  return {
    undo: () => session.undo(),
    history: inCampaign((campaign) => dialogs.showHistory(campaign, (token) => session.edit(token))),
    guidelines: inCampaign((campaign) => dialogs.showGuidelines(campaign)),
    help: () => dialogs.showHelp(),
    leave: () => session.leaveEditing(),
    skip: () => session.giveUp("skip"),
    flag: () => session.giveUp("flag"),
  };
}

function keyActs(session, acts) {
  const { form, dialogs, screen, root } = session;
  const labelling = (act) => () => { if (session.isLabelling && !session.sending) act(); };
  const choices = CHOICE_KEYS.map((key, index) => [key, labelling(() => form.setChoice(index))]);
  const scores = SIDES.flatMap((side) => (
    SCORE_KEYS[side].map((key, index) => [key, labelling(() => form.setScoreAtCursor(side, index))])
  ));
  return {
    ...Object.fromEntries([...choices, ...scores]),
    arrowup: labelling(() => form.moveCursor(-1)),
    arrowdown: labelling(() => form.moveCursor(1)),
    m: labelling(() => form.addMark("left")),
    n: labelling(() => form.addMark("right")),
    "/": labelling(() => form.note.focus()),
    s: acts.skip,
    f: acts.flag,
    z: acts.undo,
    h: acts.history,
    g: acts.guidelines,
    "?": acts.help,
    c: () => { if (session.last && session.last.answer.action === "label") dialogs.compare(session.last.token); },
    t: labelling(() => { if (session.assignment.open.includes("thoughts")) dialogs.compare(session.assignment.token); }),
    escape: acts.leave,
    enter: () => {
      if (screen.state === "labelling") session.submit();
      else if (screen.state === "feedback" && session.goOn) session.goOn();
      else if (screen.state === "waiting") root.querySelector(".label-wait .label-submit")?.click();
    },
  };
}

function onKey(event, session, keys) {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const focus = event.target;
  const { dialogs } = session;
  const { note } = session.form;
  const name = nameOf(event, keys);
  if (dialogs.open) {
    // The browser closes a dialog by Escape too, but a moment later, and the next key might come before that.
    const closes = name === "escape" || (!isText(focus) && (CLOSES[dialogs.open.dataset.dialog] || "").includes(name));
    if (closes) {
      event.preventDefault();
      dialogs.close();
    }
    return;
  }
  if (isText(focus)) {
    if (name === "escape" && focus === note) {
      event.preventDefault();
      note.blur();
    }
    return;
  }
  if (name === "enter" && focus.closest("button, a, summary, [role=button]")) return;
  const act = keys[name];
  if (!act) return;
  event.preventDefault();
  // A key held down acts once; only the cursor goes on moving.
  if (!event.repeat || name.startsWith("arrow")) act();
}

export function connectKeysAndButtons(session) {
  const { root } = session;
  const acts = buttonActs(session);
  const keys = keyActs(session, acts);
  const listener = (event) => {
    if (root.isConnected) onKey(event, session, keys);
    else document.removeEventListener("keydown", listener);
  };
  document.addEventListener("keydown", listener);
  root.querySelectorAll("[data-act]").forEach((node) => node.addEventListener("click", () => acts[node.dataset.act]()));
  root.querySelector(".label-form").addEventListener("submit", (event) => {
    event.preventDefault();
    session.submit();
  });
  // A click leaves the focus where it is, so that Enter goes on meaning "submit" and space "play".
  root.addEventListener("mousedown", (event) => {
    if (!event.target.closest("button") || event.target.closest("dialog")) return;
    event.preventDefault();
    if (isText(document.activeElement)) document.activeElement.blur();
  });
}
