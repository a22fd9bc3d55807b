// The Label page: what opens over it (reason, history, guidelines, keys), the waiting states, progress, the last label.

const SKIP_REASONS = ["I can't tell from these videos", "I don't understand the prompt", "unpleasant to watch", "not my language or field"];
const FLAG_REASONS = ["a video does not play", "the two videos are the same", "the prompt does not belong to these videos", "a video is damaged or empty"];
const dialog = (name) => find(`[data-dialog=${name}]`);
const body = (name) => find(".label-dialog-body", dialog(name));

function openDialog(name) {
  closeDialogs();
  pairRoot.dispatchEvent(new CustomEvent("pair:pause"));
  dialog(name).showModal();
}

// The focus would stay in a closed dialog until the next picture is drawn, and the next key go there.
function closeDialogs() {
  all("dialog[open]").forEach((one) => one.close());
  if (document.activeElement.closest("dialog")) document.activeElement.blur();
}

// ---- skip and flag -----------------------------------------------------------------------------------------------

function askReason(action) {
  if (root.dataset.state !== "labelling" || session.editing || session.sending) return;
  const box = dialog("reason");
  setText(find("h2", box), action === "skip" ? "Why skip this pair?" : "What is broken?");
  const own = find("input", box);
  own.value = "";
  const answerWith = (reason) => { closeDialogs(); send({ action, reason }); };
  find("ol", box).replaceChildren(...(action === "skip" ? SKIP_REASONS : FLAG_REASONS).map((reason, index) => (
    make("li", "", button(reason, String(index + 1), () => answerWith(reason)))
  )));
  find("form", box).onsubmit = (event) => {
    event.preventDefault();
    if (own.value.trim()) answerWith(own.value.trim());
    else { find("button", box).focus(); own.placeholder = "choose 1 to 4, or say it in your own words"; }
  };
  openDialog("reason");
}

dialog("reason").addEventListener("keydown", (event) => {
  if (event.target.tagName === "INPUT" || event.ctrlKey || event.metaKey || event.altKey) return;
  const chosen = all("li button", dialog("reason"))[Number(event.key) - 1];
  if (chosen) { event.preventDefault(); chosen.click(); }
  if (event.key === "/") { event.preventDefault(); find("input", dialog("reason")).focus(); }
});

// ---- history, guidelines, keys -----------------------------------------------------------------------------------

async function fillFrom(name, request, paintBody) {
  body(name).replaceChildren(make("p", "label-faint", "loading"));
  openDialog(name);
  try {
    body(name).replaceChildren(...paintBody(await request()));
  } catch (error) {
    body(name).replaceChildren(make("p", "error-line", error.message));
  }
}

function showHistory() {
  if (!session.campaign) return;
  fillFrom("history", () => call(`history?campaign=${session.campaign}`), ({ turns }) => {
    if (!turns.length) return [make("p", "label-faint", "Nothing yet.")];
    return [make("ol", "label-history", ...turns.map((one) => {
      const open = button("", null, () => edit(one.turn));
      open.append(make("b", "", inWords(one.label)), make("time", "", moment(one.at)), make("span", "", one.prompt));
      const line = make("li", "", open);
      if (one.label.action === "label") line.append(button("compare", null, () => compare(one.turn)));
      return line;
    }))];
  });
}

const moment = (text) => new Date(text).toLocaleString([], { dateStyle: "short", timeStyle: "short" });

function showGuidelines() {
  if (!session.campaign) return;
  fillFrom("guidelines", () => call(`guidelines?campaign=${session.campaign}`), (guide) => [
    ...guide.intro.split(/\n+/).map((line) => make("p", "", line)),
    ...guide.dimensions.map((one) => make("section", "", make("h3", "", one.name), make("p", "", one.definition),
      one.example ? make("p", "label-example", one.example) : null)),
    make("p", "label-faint", `version ${guide.version}`),
  ]);
}

const KEY_TABLE = [
  ["Play", [["space", "play or pause"], [", .", "one frame back, on"], ["\u2190 \u2192", "half a second back, on"], ["home end", "to the start, the end"],
    ["[ ]", "slower, faster"], ["l", "loop on or off"]]],
  ["Preference", [["1 2", "A clearly, A slightly"], ["3", "tie"], ["4 5", "B slightly, B clearly"], ["0", "both bad"]]],
  ["Sub-scores", [["\u2191 \u2193", "dimension up, down"], ["q w e r", "A: 2, 1, 0, N/A"], ["u i o p", "B: 2, 1, 0, N/A"]]],
  ["Marks and note", [["m n", "A, B breaks here"], ["/", "write a note"], ["esc", "leave the note"]]],
  ["Go on", [["enter", "submit"], ["s", "skip"], ["f", "flag as broken"], ["z", "take the last one back"], ["h", "your last ten"],
    ["c", "your last label and the model"], ["t", "the model's thoughts, where open"], ["g", "guidelines"], ["?", "this list"]]],
];

function showHelp() {
  body("help").replaceChildren(...KEY_TABLE.map(([title, rows]) => make("section", "", make("h3", "", title),
    make("dl", "", ...rows.flatMap(([keys, text]) => [
      make("dt", "", ...keys.split(" ").map((key) => make("kbd", "", key))), make("dd", "", text),
    ])))));
  openDialog("help");
}

all("[data-close]").forEach((one) => one.addEventListener("click", closeDialogs));
// A click beside the panel closes it.
all("dialog").forEach((one) => one.addEventListener("click", (event) => { if (event.target === one) closeDialogs(); }));

// ---- waiting -----------------------------------------------------------------------------------------------------

const WAITING = {
  finished: ["Nothing left to do here", "Every pair has its labels, or you have seen it already. Pairs can come back: look again later. Thank you!"],
  paused: ["You are paused in this campaign", "The lead has paused your work here. What you labelled is saved; ask the lead when to go on."],
  "not qualified": ["You did not pass the practice pairs", "Your answers differed too often from the agreed ones. Read the guidelines, and ask the lead to let you in."],
  "campaign paused": ["This campaign is paused", "What you labelled is saved. Come back later, or ask the lead."],
  "campaign closed": ["This campaign is closed", "Its labels are collected. Thank you!"],
};

function wait(title, text, ...actions) {
  setText(find(".label-wait h2"), title);
  setText(find(".label-wait p"), text);
  find(".label-wait-actions").replaceChildren(...actions.filter(Boolean));
  setState("waiting");
}

function showWaiting(reason) {
  const [title, text] = WAITING[reason] || ["Nothing to label", reason];
  const others = session.campaigns.length > 1 ? button("other campaigns", null, chooseCampaign) : null;
  wait(title, text, button("look again", "enter", next, "label-submit"), others);
}

function showRefusal(error) {
  if (error.code === "not_signed_in") {
    const link = make("a", "label-submit", "Sign in");
    link.href = `${BASE}sign-in?next=/label`;
    wait("You are not signed in", "What you filled in is kept in this tab.", link);
  } else if (error.code === "not_allowed") wait("This page is for annotators", error.message);
  else if (error.code === "network") wait("The server can't be reached", "Check your connection.", button("try again", "enter", start, "label-submit"));
  else wait("That did not work", error.message, button("go on", "enter", session.campaign ? next : start, "label-submit"));
}

function chooseCampaign() {
  session.turn = null;
  const cards = session.campaigns.map((one) => {
    const facts = [one.status === "open" ? null : one.status, `${one.done} by you`, `${one.left} labels left`];
    return button(`${one.name} \u2013 ${facts.filter(Boolean).join(", ")}`, null, () => enter(one.id));
  });
  wait("Choose a campaign", cards.length ? "" : "No campaign is open at the moment.", ...cards);
}

// ---- the lines on top and at the foot ----------------------------------------------------------------------------

function paintProgress() {
  const { progress } = session;
  const here = session.campaigns.find((one) => one.id === session.campaign);
  const name = find(".label-campaign");
  const several = session.campaigns.length > 1;
  name.replaceChildren(several && here ? button(here.name, null, async () => { await putAside(); chooseCampaign(); }) : here ? here.name : "");
  if (several && here) name.firstChild.title = "Other campaigns";
  if (progress) setText(find(".label-progress"), `today ${progress.today} \u00b7 in all ${progress.labels} \u00b7 ${progress.left} left in the campaign`);
}

function paintLast() {
  const { last } = session;
  const line = find(".label-last");
  line.hidden = !last;
  if (!last) return;
  const labelled = last.answer.action === "label";
  line.replaceChildren(make("span", "", "your last: ", make("b", "", inWords(last.answer))));
  if (labelled) line.append(button("compare with the model", "c", () => compare(last.turn)));
  if (!last.final) line.append(button("edit", null, () => edit(last.turn)));
}
