// The Label page: keys, buttons, and the start. The player's own keys are in synced_pair.js.

const ACTS = {
  undo, history: showHistory, guidelines: showGuidelines, help: showHelp, leave: leaveEditing,
  skip: () => askReason("skip"), flag: () => askReason("flag"),
};
const labelling = (act) => () => { if (root.dataset.state === "labelling" && !session.sending) act(); };
const scoring = (side, index) => labelling(() => { if (dimensions.length) setScore(side, dimensions[cursor], SCORES[index]); });

const KEYS = {
  ...Object.fromEntries(CHOICE_KEYS.map((key, index) => [key, labelling(() => setChoice(index))])),
  ...Object.fromEntries(SIDES.flatMap((side) => SCORE_KEYS[side].map((key, index) => [key, scoring(side, index)]))),
  arrowup: labelling(() => moveCursor(-1)),
  arrowdown: labelling(() => moveCursor(1)),
  m: labelling(() => addMark("left")),
  n: labelling(() => addMark("right")),
  "/": labelling(() => note.focus()),
  s: ACTS.skip, f: ACTS.flag, z: undo, h: showHistory, g: showGuidelines, "?": showHelp,
  c: () => { if (session.last && session.last.answer.action === "label") compare(session.last.turn); },
  t: labelling(() => { if (session.turn.open.includes("thoughts")) compare(session.turn.token); }),
  enter: onEnter,
  escape: leaveEditing,
};
const CLOSES = { history: "h", guidelines: "g", compare: "ct", help: "?" };  // the key that opened a panel closes it too

function onEnter() {
  const { state } = root.dataset;
  if (state === "labelling") submit();
  else if (state === "feedback" && goOn) goOn();
  else if (state === "waiting") { const main = find(".label-wait .label-submit"); if (main) main.click(); }
}

const isText = (node) => node.isContentEditable || node.tagName === "TEXTAREA" || node.tagName === "SELECT"
  || (node.tagName === "INPUT" && !["range", "button", "checkbox", "radio"].includes(node.type));

// On a layout without these characters in these places, the place of the key decides.
function nameOf(event) {
  const key = event.key.toLowerCase();
  if (KEYS[key] || event.shiftKey) return key;
  const place = /^(?:Key([A-Z])|Digit(\d))$/.exec(event.code || "");
  return place ? (place[1] || place[2]).toLowerCase() : key;
}

function onKey(event) {
  if (!root.isConnected) { document.removeEventListener("keydown", onKey); return; }
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const focus = event.target, open = find("dialog[open]"), name = nameOf(event);
  if (open) {
    // The browser closes a dialog by Escape too, but a moment later, and the next key might come before that.
    if (name === "escape" || (!isText(focus) && (CLOSES[open.dataset.dialog] || "").includes(name))) { event.preventDefault(); closeDialogs(); }
    return;
  }
  if (isText(focus)) {
    if (name === "escape" && focus === note) { event.preventDefault(); note.blur(); }
    return;
  }
  if (name === "enter" && focus.closest("button, a, summary, [role=button]")) return;
  const act = KEYS[name];
  if (!act) return;
  event.preventDefault();
  // A key held down acts once; only the cursor goes on moving.
  if (!event.repeat || name.startsWith("arrow")) act();
}

// ---- wiring ------------------------------------------------------------------------------------------------------

onChange = touched;
document.addEventListener("keydown", onKey);
all("[data-act]").forEach((one) => one.addEventListener("click", () => ACTS[one.dataset.act]()));
formNode.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
// A click leaves the focus where it is, so that Enter goes on meaning "submit" and space "play".
root.addEventListener("mousedown", (event) => {
  if (event.target.closest("button") && !event.target.closest("dialog")) { event.preventDefault(); if (isText(document.activeElement)) document.activeElement.blur(); }
});
document.addEventListener("visibilitychange", () => { countTime(); if (document.visibilityState === "hidden" && !session.sending) saveOnLeaving(); });
window.addEventListener("pagehide", saveOnLeaving);
const counting = setInterval(() => {
  if (!root.isConnected) { clearInterval(counting); return; }
  countTime();
  if (session.turn && !session.editing && (watch.seconds - session.sentSeconds) * 1000 > DRAFT_EVERY) saveDraft();
}, WATCH_EVERY);

// ---- start -------------------------------------------------------------------------------------------------------

function enter(id) {
  session.campaign = id;
  const address = new URL(location.href);
  address.searchParams.set("campaign", id);
  history.replaceState(history.state, "", address);
  paintProgress();
  next();
}

async function start() {
  try {
    session.campaigns = (await call("campaigns")).campaigns;
  } catch (error) {
    showRefusal(error);
    return;
  }
  const asked = Number(new URL(location.href).searchParams.get("campaign"));
  const open = session.campaigns.filter((one) => one.status === "open");
  if (session.campaigns.some((one) => one.id === asked)) enter(asked);
  else if (open.length === 1) enter(open[0].id);
  else chooseCampaign();
}

start();
