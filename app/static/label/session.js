// The Label page: one person's turn after the other. Takes a turn from the server, keeps its draft, sends the answer.

const DRAFT_AFTER = 500;         // milliseconds after a change
const DRAFT_EVERY = 20_000;      // milliseconds between drafts that only carry the time on task; they keep the lease too
const SETTLE = 2000;             // milliseconds to wait for a draft that is under way
const formNode = find(".label-form");
const session = {
  campaigns: [], campaign: null, turn: null, submission: "", editing: false, sending: false,
  progress: null, last: null, sentSeconds: 0, draftTimer: null, draftRun: null, draftAgain: false,
};

function say(text, kind = "") {
  const status = find(".label-status");
  setText(status, text);
  status.dataset.kind = kind;
}

// ---- a turn begins -----------------------------------------------------------------------------------------------

function show(view, editing = false) {
  const turn = { ...view, token: view.turn };
  clearTimeout(session.draftTimer);
  const kept = memory.get(turn.token);
  let content = (editing ? turn.label || turn.draft : turn.draft) || null;
  // What this tab kept is newer than the server's draft if more time was spent on it: the last save may have failed.
  if (kept && (!content || kept.seconds > (content.seconds || 0) || editing)) content = kept;
  Object.assign(session, { turn, editing, sending: false, sentSeconds: content ? content.seconds || 0 : 0 });
  session.submission = (content && content.submission) || newToken();
  memory.set("campaign", session.campaign);
  setText(find(".label-prompt-text"), turn.prompt);
  pairRoot.dispatchEvent(new CustomEvent("pair:show", { detail: { a: clip(turn.left), b: clip(turn.right) } }));
  if (dimensions.join() !== turn.dimensions.join()) buildGrid(turn.dimensions);
  fill(content);
  setState("labelling");
  resumeWatch(content);
  paintTurn();
  // On a phone the person has scrolled down to submit.
  if (find(".label-prompt").getBoundingClientRect().top < 0) find(".label-prompt").scrollIntoView({ block: "start" });
  showOpen(turn);
}

const clip = (source) => ({ ...source, url: BASE + source.url.replace(/^\.?\//, "") });

function paintTurn() {
  const { turn, editing } = session;
  const mark = find(".label-badge");
  const practice = turn.practice ? `practice pair ${turn.practice.number} of ${turn.practice.of}` : "";
  setText(mark, editing ? "changing an earlier label" : practice);
  mark.hidden = !editing && !practice;
  setText(find(".label-form .label-submit span"), editing ? "save the change" : "submit");
  find("[data-act=leave]").hidden = !editing;
  all("[data-act=skip], [data-act=flag]").forEach((one) => { one.hidden = editing; });
}

function setState(state) {
  root.dataset.state = state;
  find(".label-desk").hidden = !["labelling", "feedback"].includes(state);
  formNode.hidden = state === "feedback";
  find(".label-feedback").hidden = state !== "feedback";
  find(".label-wait").hidden = state !== "waiting";
  if (state !== "labelling") pairRoot.dispatchEvent(new CustomEvent("pair:pause"));
}

// What the server says next: a turn, or why there is none.
function proceed(answer) {
  session.progress = answer.progress || session.progress;
  paintProgress();
  if (answer.turn) { show(answer.turn); return; }
  session.turn = null;
  showWaiting(answer.waiting);
}

async function next() {
  try {
    proceed(await callUntilAnswered("next", { campaign: session.campaign, midnight: midnight() }, () => say("The server can't be reached, trying again", "bad")));
    if (find(".label-status").dataset.kind === "bad") say("");
  } catch (error) {
    showRefusal(error);
  }
}

// ---- drafts ------------------------------------------------------------------------------------------------------

function draftContent() {
  countTime();
  return { ...form, seconds: Number(watch.seconds.toFixed(1)), playback: playback(true), submission: session.submission };
}

function touched() {
  if (!session.turn) return;
  memory.set(session.turn.token, draftContent());
  if (session.editing) return;  // a saved label has no draft on the server; this tab keeps the change
  clearTimeout(session.draftTimer);
  session.draftTimer = setTimeout(saveDraft, DRAFT_AFTER);
}

// One draft is under way at a time; what changed meanwhile goes with the next one.
async function saveDraft() {
  if (!session.turn || session.editing || session.sending) return;
  if (session.draftRun) { session.draftAgain = true; return; }
  session.draftRun = sendDraft();
  await session.draftRun;
  session.draftRun = null;
  if (session.draftAgain) { session.draftAgain = false; saveDraft(); }
}

async function sendDraft() {
  const { token } = session.turn, draft = draftContent();
  try {
    await call("draft", { turn: token, draft });
    session.sentSeconds = draft.seconds;
    if (isCurrent(token)) say("draft saved");
  } catch (error) {
    if (isCurrent(token)) await draftFailed(error);
  }
}

// Before the turn is left: a draft that arrived after that would be refused.
async function settleDraft() {
  clearTimeout(session.draftTimer);
  session.draftAgain = false;
  await Promise.race([session.draftRun, new Promise((resolve) => setTimeout(resolve, SETTLE))]);
}

async function putAside() {
  await settleDraft();
  if (root.dataset.state === "labelling" && !session.editing) await saveDraft();
}

const isCurrent = (token) => Boolean(session.turn) && session.turn.token === token && !session.sending;

async function draftFailed(error) {
  if (error.code === "network") {
    say("draft not saved yet, trying again", "bad");
    clearTimeout(session.draftTimer);
    session.draftTimer = setTimeout(saveDraft, 3000);
  } else if (error.code === "lease_lost") await leaseLost(error);
  else showRefusal(error);
}

// The pair went back to the queue. Often the server gives it back at once, and what is filled in stays.
async function leaseLost(error) {
  const { token } = session.turn;
  memory.set(token, draftContent());
  await next();
  const same = session.turn && session.turn.token === token;
  say(same ? "" : error.message, same ? "" : "bad");
}

function saveOnLeaving() {
  if (root.dataset.state !== "labelling" || !session.turn) return;
  const draft = draftContent();
  memory.set(session.turn.token, draft);
  if (session.editing) return;
  clearTimeout(session.draftTimer);
  call("draft", { turn: session.turn.token, draft }, { keepalive: true }).catch(() => {});
}

// ---- sending -----------------------------------------------------------------------------------------------------

function submit() {
  if (root.dataset.state !== "labelling") return;
  const gap = missing();
  if (gap) { say(gap.text, "bad"); goTo(gap.place); return; }
  send({ action: "label" });
}

// Sends once, until the server has answered; the token makes a repeated arrival harmless.
async function send(what) {
  if (session.sending || !session.turn) return;
  session.sending = true;
  clearTimeout(session.draftTimer);
  const turn = session.turn.token;
  const edits = session.editing ? session.turn.label.id : null;
  const { submission, ...content } = draftContent();
  const answer = { ...content, playback: playback(false), reason: "", ...what };
  root.classList.add("is-sending");
  say("saving");
  await settleDraft();
  try {
    const result = await callUntilAnswered("submit", { turn, submission, edits, answer, midnight: midnight() }, () => say("not saved yet, trying again", "bad"));
    memory.drop(turn);
    session.last = { turn, answer, final: Boolean(result.feedback) };
    afterSaving(result);
  } catch (error) {
    session.sending = false;
    if (error.code === "lease_lost") await leaseLost(error);
    else if (error.code === "bad_answer") say(error.message, "bad");
    else showRefusal(error);
  } finally {
    root.classList.remove("is-sending");
  }
}

function afterSaving(result) {
  session.sending = false;
  say("saved");
  paintLast();
  if (!result.feedback) { proceed(result); return; }
  warmNext(result.turn);
  showFeedback(result.feedback, () => proceed(result));
}

async function undo() {
  if (session.sending) return;
  await putAside();
  try {
    const key = memory.get("undo") || newToken();
    memory.set("undo", key);  // the same key until it is answered, so that a lost answer takes nothing else back
    const answer = await call("undo", { campaign: session.campaign, submission: key, midnight: midnight() });
    memory.drop("undo");
    if (!answer.turn) { say("There is nothing to take back."); return; }
    memory.drop(answer.turn.token);
    session.last = null;
    paintLast();
    proceed(answer);
    say("Taken back; change what you like and submit again.");
  } catch (error) {
    if (error.code !== "network") memory.drop("undo");
    say(error.code === "network" ? "Not taken back: the server can't be reached. Try again." : error.message, "bad");
  }
}

// ---- changing one of the last ten --------------------------------------------------------------------------------

async function edit(token) {
  if (session.sending) return;
  closeDialogs();
  await putAside();
  try {
    const answer = await call("open", { turn: token });
    show(answer.turn, answer.turn.state !== "leased");
    say("");
  } catch (error) {
    say(error.message, "bad");
  }
}

function leaveEditing() {
  if (!session.editing) return;
  memory.drop(session.turn.token);
  say("Left as it was.");
  next();
}
