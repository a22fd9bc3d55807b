// The Label page around the form: why there is nothing to label, progress, status, the last label.

import { addressOf } from "../shared/address.js";
import { make, setText } from "../shared/dom.js";
import { button, inWords } from "./markup.js";

const WAITING = {
  finished: ["Nothing left to do here", "Every pair has its labels, or you have seen it already. Pairs can come back: look again later. Thank you!"],
  paused: ["You are paused in this campaign", "The lead has paused your work here. What you labelled is saved; ask the lead when to go on."],
  "not qualified": ["You did not pass the practice pairs", "Your answers differed too often from the agreed ones. Read the guidelines, and ask the lead to let you in."],
  "campaign paused": ["This campaign is paused", "What you labelled is saved. Come back later, or ask the lead."],
  "campaign closed": ["This campaign is closed", "Its labels are collected. Thank you!"],
};

const GUESTS = "This is a demo. One click makes you a guest for a day: you label the bundled pairs and see what the model thought of them.";

const NO_CAMPAIGN = "A lead makes one on the Lead page. To see first how labelling goes, start the demo store: python app.py --demo";

function guestForm() {
  const form = make("form", "", Object.assign(make("button", "label-submit", "Label as a guest"), { type: "submit" }));
  return Object.assign(form, { method: "post", action: addressOf("guest") });
}

export class Screen {
  constructor(root, pair) {
    this.root = root;
    this.pair = pair;
    this.status = root.querySelector(".label-status");
  }

  get state() { return this.root.dataset.state; }

  // One of "loading", "labelling", "feedback", "waiting".
  setState(state) {
    this.root.dataset.state = state;
    this.root.querySelector(".label-desk").hidden = !["labelling", "feedback"].includes(state);
    this.root.querySelector(".label-form").hidden = state === "feedback";
    this.root.querySelector(".label-feedback").hidden = state !== "feedback";
    this.root.querySelector(".label-wait").hidden = state !== "waiting";
    if (state !== "labelling") this.pair.pause();
  }

  say(text, kind = "") {
    setText(this.status, text);
    this.status.dataset.kind = kind;
  }

  get tellsOfTrouble() { return this.status.dataset.kind === "bad"; }

  wait(title, text, ...actions) {
    setText(this.root.querySelector(".label-wait h2"), title);
    setText(this.root.querySelector(".label-wait p"), text);
    this.root.querySelector(".label-wait-actions").replaceChildren(...actions.filter(Boolean));
    this.setState("waiting");
  }

  showWaiting(reason, session) {
    const [title, text] = WAITING[reason] || ["Nothing to label", reason];
    const others = session.campaigns.length > 1 ? button("other campaigns", null, () => session.chooseCampaign()) : null;
    this.wait(title, text, button("look again", "enter", () => session.next(), "label-submit"), others);
  }

  showRefusal(error, session) {
    const goOn = (text, act) => button(text, "enter", act, "label-submit");
    if (error.code === "not_signed_in") {
      const link = Object.assign(make("a", "label-submit", "Sign in"), { href: addressOf("sign-in?next=/label") });
      if (this.root.dataset.guests === undefined) this.wait("You are not signed in", "What you filled in is kept in this tab.", link);
      else this.wait("Label as a guest", GUESTS, guestForm());
    } else if (error.code === "not_allowed") {
      this.wait("This page is for annotators", error.message);
    } else if (error.code === "network") {
      this.wait("The server can't be reached", "Check your connection.", goOn("try again", () => session.start()));
    } else {
      this.wait("That did not work", error.message, goOn("go on", () => (session.campaign ? session.next() : session.start())));
    }
  }

  showCampaigns(session) {
    const cards = session.campaigns.map(({ id, name, status, done, left }) => {
      const parts = [status === "open" ? null : status, `${done} by you`, `${left} labels left`];
      return button(`${name} \u2013 ${parts.filter(Boolean).join(", ")}`, null, () => session.enter(id));
    });
    this.wait(cards.length ? "Choose a campaign" : "No campaign is open at the moment", cards.length ? "" : NO_CAMPAIGN, ...cards);
  }

  paintProgress(session) {
    const { progress, campaigns } = session;
    const current = campaigns.find(({ id }) => id === session.campaign);
    const name = this.root.querySelector(".label-campaign");
    if (current && campaigns.length > 1) {
      const choose = button(current.name, null, () => session.leaveCampaign());
      choose.title = "Other campaigns";
      name.replaceChildren(choose);
    } else {
      name.replaceChildren(current ? current.name : "");
    }
    if (!progress) return;
    const text = `today ${progress.today} \u00b7 in all ${progress.labels} \u00b7 ${progress.left} left in the campaign`;
    setText(this.root.querySelector(".label-progress"), text);
  }

  paintLast(session) {
    const { last } = session;
    const line = this.root.querySelector(".label-last");
    line.hidden = !last;
    if (!last) return;
    line.replaceChildren(make("span", "", "your last: ", make("b", "", inWords(last.answer))));
    if (last.answer.action === "label") line.append(button("compare with the model", "c", () => session.dialogs.compare(last.token)));
    if (!last.final) line.append(button("edit", null, () => session.edit(last.token)));
  }

  paintAssignment({ practice }, editing) {
    const badge = this.root.querySelector(".label-badge");
    const ofPractice = practice ? `practice pair ${practice.number} of ${practice.of}` : "";
    setText(badge, editing ? "changing an earlier label" : ofPractice);
    badge.hidden = !editing && !ofPractice;
    setText(this.root.querySelector(".label-form .label-submit span"), editing ? "save the change" : "submit");
    this.root.querySelector("[data-act=leave]").hidden = !editing;
    this.root.querySelectorAll("[data-act=skip], [data-act=flag]").forEach((node) => { node.hidden = editing; });
  }
}
