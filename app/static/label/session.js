// One person's assignments, one after the other: a pair comes from the server, its draft is kept, the answer is sent.

import { addressOf } from "../shared/address.js";
import { make, newToken, setText } from "../shared/dom.js";
import { Dialogs } from "./dialogs.js";
import { LabelForm } from "./form.js";
import { SIDES, button, inWords } from "./markup.js";
import { scoreTable, summary } from "./model_view.js";
import { Screen } from "./screen.js";
import { askModel, call, callUntilAnswered, memory, midnight } from "./server.js";
import { TimeOnTask } from "./time_on_task.js";

const DRAFT_AFTER = 500;         // milliseconds after a change
const DRAFT_EVERY = 20;          // seconds between drafts that only carry the time on task; they keep the lease too
const DRAFT_AGAIN = 3000;        // milliseconds after a draft that did not arrive
const SETTLE = 2000;             // milliseconds to wait for a draft that is under way

const clipOf = (source) => ({ ...source, url: addressOf(source.url.replace(/^\.?\//, "")) });

export class Session {
  constructor(root, pair) {
    this.root = root;
    this.pair = pair;
    this.campaigns = [];
    this.campaign = null;
    this.assignment = null;
    this.submission = "";
    this.editing = false;
    this.sending = false;
    this.progress = null;
    this.last = null;
    this.goOn = null;          // what follows the feedback on a practice pair
    this.sentSeconds = 0;
    this.draftTimer = null;
    this.draftRun = null;
    this.draftAgain = false;
    this.fetchedAhead = [];
    this.screen = new Screen(root, pair);
    this.dialogs = new Dialogs(root, pair);
    this.watch = new TimeOnTask(pair.root, () => this.isLabelling);
    this.form = new LabelForm(root, pair, () => this.touched());
  }

  get isLabelling() { return this.screen.state === "labelling"; }

  isCurrent(token) { return Boolean(this.assignment) && this.assignment.token === token && !this.sending; }

  // ---- campaigns -------------------------------------------------------------------------------------------------

  async start() {
    try {
      this.campaigns = (await call("campaigns")).campaigns;
    } catch (error) {
      this.screen.showRefusal(error, this);
      return;
    }
    const fromAddress = Number(new URL(location.href).searchParams.get("campaign"));
    const open = this.campaigns.filter(({ status }) => status === "open");
    if (this.campaigns.some(({ id }) => id === fromAddress)) this.enter(fromAddress);
    else if (open.length === 1) this.enter(open[0].id);
    else this.chooseCampaign();
  }

  enter(id) {
    this.campaign = id;
    const address = new URL(location.href);
    address.searchParams.set("campaign", id);
    history.replaceState(history.state, "", address);
    this.screen.paintProgress(this);
    this.next();
  }

  chooseCampaign() {
    this.assignment = null;
    this.screen.showCampaigns(this);
  }

  async leaveCampaign() {
    await this.putAside();
    this.chooseCampaign();
  }

  // ---- an assignment begins --------------------------------------------------------------------------------------

  async next() {
    const onTrouble = () => this.screen.say("The server can't be reached, trying again", "bad");
    try {
      this.proceed(await callUntilAnswered("next", { campaign: this.campaign, midnight: midnight() }, onTrouble));
      if (this.screen.tellsOfTrouble) this.screen.say("");
    } catch (error) {
      this.screen.showRefusal(error, this);
    }
  }

  // The server's answer has an assignment, or the reason why there is none.
  proceed(answer) {
    this.progress = answer.progress || this.progress;
    this.screen.paintProgress(this);
    if (answer.turn) {
      this.show(answer.turn);
      return;
    }
    this.assignment = null;
    this.screen.showWaiting(answer.waiting, this);
  }

  show(view, editing = false) {
    const assignment = { ...view, token: view.turn };
    clearTimeout(this.draftTimer);
    const kept = memory.get(assignment.token);
    let content = (editing ? assignment.label || assignment.draft : assignment.draft) || null;
    // What this tab kept is newer than the server's draft if more time was spent on it: the last save may have failed.
    if (kept && (!content || kept.seconds > (content.seconds || 0) || editing)) content = kept;
    Object.assign(this, { assignment, editing, sending: false, sentSeconds: content ? content.seconds || 0 : 0 });
    this.submission = (content && content.submission) || newToken();
    memory.set("campaign", this.campaign);
    setText(this.root.querySelector(".label-prompt-text"), assignment.prompt);
    this.pair.show({ a: clipOf(assignment.left), b: clipOf(assignment.right) });
    this.form.setDimensions(assignment.dimensions);
    this.form.fill(content);
    this.screen.setState("labelling");
    this.watch.resume(content);
    this.screen.paintAssignment(assignment, editing);
    // On a phone the person has scrolled down to submit.
    const prompt = this.root.querySelector(".label-prompt");
    if (prompt.getBoundingClientRect().top < 0) prompt.scrollIntoView({ block: "start" });
    this.showOpenParts(assignment);
  }

  // Assisted campaigns open parts of the model's view during labelling: a line over the videos, and its scores in the grid.
  async showOpenParts(assignment) {
    const line = this.root.querySelector(".label-open");
    this.root.classList.toggle("is-assisted", assignment.open.length > 0);
    line.hidden = !assignment.open.length;
    this.form.suggest(null);
    if (!assignment.open.length) return;
    line.replaceChildren(make("span", "label-faint", "asking the model"));
    try {
      const view = await askModel(assignment.token);
      if (this.assignment !== assignment) return;
      const showThoughts = () => this.dialogs.compare(assignment.token);
      line.replaceChildren(...summary(view), ...(view.model && view.model.thoughts ? [button("thoughts", "t", showThoughts)] : []));
      this.form.suggest(view.model && view.model.sub_scores);
    } catch (error) {
      if (this.assignment === assignment) line.replaceChildren(make("span", "", `no view of the model: ${error.message}`));
    }
  }

  // ---- drafts ----------------------------------------------------------------------------------------------------

  draftContent() {
    this.watch.count();
    const seconds = Number(this.watch.seconds.toFixed(1));
    return { ...this.form.content, seconds, playback: this.watch.playback(true), submission: this.submission };
  }

  touched() {
    if (!this.assignment) return;
    memory.set(this.assignment.token, this.draftContent());
    if (this.editing) return;  // a saved label has no draft on the server; this tab keeps the change
    this.saveDraftIn(DRAFT_AFTER);
  }

  saveDraftIn(milliseconds) {
    clearTimeout(this.draftTimer);
    this.draftTimer = setTimeout(() => this.saveDraft(), milliseconds);
  }

  // One draft is under way at a time; what changed meanwhile goes with the next one.
  async saveDraft() {
    if (!this.assignment || this.editing || this.sending) return;
    if (this.draftRun) {
      this.draftAgain = true;
      return;
    }
    this.draftRun = this.sendDraft();
    await this.draftRun;
    this.draftRun = null;
    if (this.draftAgain) {
      this.draftAgain = false;
      this.saveDraft();
    }
  }

  async sendDraft() {
    const { token } = this.assignment;
    const draft = this.draftContent();
    try {
      await call("draft", { turn: token, draft });
      this.sentSeconds = draft.seconds;
      if (this.isCurrent(token)) this.screen.say("draft saved");
    } catch (error) {
      if (this.isCurrent(token)) await this.draftFailed(error);
    }
  }

  // Before the assignment is left: a draft that arrived after that would be refused.
  async settleDraft() {
    clearTimeout(this.draftTimer);
    this.draftAgain = false;
    await Promise.race([this.draftRun, new Promise((resolve) => setTimeout(resolve, SETTLE))]);
  }

  async putAside() {
    await this.settleDraft();
    if (this.isLabelling && !this.editing) await this.saveDraft();
  }

  async draftFailed(error) {
    if (error.code === "network") {
      this.screen.say("draft not saved yet, trying again", "bad");
      this.saveDraftIn(DRAFT_AGAIN);
    } else if (error.code === "lease_lost") await this.leaseLost(error);
    else this.screen.showRefusal(error, this);
  }

  // The pair went back to the queue. Often the server gives it back at once, and what is filled in stays.
  async leaseLost(error) {
    const { token } = this.assignment;
    memory.set(token, this.draftContent());
    await this.next();
    const same = this.assignment && this.assignment.token === token;
    this.screen.say(same ? "" : error.message, same ? "" : "bad");
  }

  // A draft that carries the time on task alone.
  keepTime() {
    this.watch.count();
    if (this.assignment && !this.editing && this.watch.seconds - this.sentSeconds > DRAFT_EVERY) this.saveDraft();
  }

  saveOnLeaving() {
    if (!this.isLabelling || !this.assignment) return;
    const { token } = this.assignment;
    const draft = this.draftContent();
    memory.set(token, draft);
    if (this.editing) return;
    clearTimeout(this.draftTimer);
    call("draft", { turn: token, draft }, { keepalive: true }).catch(() => {});
  }

  // ---- sending ---------------------------------------------------------------------------------------------------

  submit() {
    if (!this.isLabelling) return;
    const gap = this.form.missing();
    if (gap) {
      this.screen.say(gap.text, "bad");
      this.form.goTo(gap.part);
      return;
    }
    this.send({ action: "label" });
  }

  // Skips or flags, after the reason was asked for.
  giveUp(action) {
    if (!this.isLabelling || this.editing || this.sending) return;
    this.dialogs.askReason(action, (reason) => this.send({ action, reason }));
  }

  // Sends once, until the server has answered; the token makes a repeated arrival harmless.
  async send(action) {
    if (this.sending || !this.assignment) return;
    this.sending = true;
    clearTimeout(this.draftTimer);
    const { token } = this.assignment;
    const edits = this.editing ? this.assignment.label.id : null;
    const { submission, ...content } = this.draftContent();
    const answer = { ...content, playback: this.watch.playback(false), reason: "", ...action };
    const onTrouble = () => this.screen.say("not saved yet, trying again", "bad");
    this.root.classList.add("is-sending");
    this.screen.say("saving");
    await this.settleDraft();
    try {
      const body = { turn: token, submission, edits, answer, midnight: midnight() };
      const result = await callUntilAnswered("submit", body, onTrouble);
      memory.drop(token);
      this.last = { token, answer, final: Boolean(result.feedback) };
      this.afterSaving(result);
    } catch (error) {
      this.sending = false;
      if (error.code === "lease_lost") await this.leaseLost(error);
      else if (error.code === "bad_answer") this.screen.say(error.message, "bad");
      else this.screen.showRefusal(error, this);
    } finally {
      this.root.classList.remove("is-sending");
    }
  }

  afterSaving(result) {
    this.sending = false;
    this.screen.say("saved");
    this.screen.paintLast(this);
    if (!result.feedback) {
      this.proceed(result);
      return;
    }
    this.fetchAhead(result.turn);
    this.showFeedback(result.feedback, () => this.proceed(result));
  }

  showFeedback({ own, gold, right, number, of }, goOn) {
    const sentence = `The agreed answer is ${inWords(gold)}${right ? " too." : `; yours was ${inWords(own)}.`}`;
    const parties = [["you", own.sub_scores], ...(gold.sub_scores ? [["agreed", gold.sub_scores]] : [])];
    const box = this.root.querySelector(".label-feedback");
    this.goOn = () => {
      this.goOn = null;
      goOn();
    };
    const text = make("div", "label-feedback-text",
      make("h2", right ? "is-right" : "is-wrong", `Practice pair ${number} of ${of}`),
      make("p", "", sentence),
      gold.explanation ? make("p", "label-example", gold.explanation) : null,
      button("go on", "enter", () => this.goOn?.(), "label-submit"));
    box.replaceChildren(text, ...[scoreTable(this.form.dimensions, parties)].filter(Boolean));
    this.screen.setState("feedback");
    box.scrollIntoView({ block: "nearest" });
  }

  // While feedback is read, the browser already fetches the next pair's videos.
  fetchAhead(view) {
    this.fetchedAhead.forEach((video) => video.removeAttribute("src"));
    this.fetchedAhead = view ? SIDES.map((side) => (
      Object.assign(document.createElement("video"), { muted: true, preload: "auto", src: clipOf(view[side]).url })
    )) : [];
  }

  async undo() {
    if (this.sending) return;
    await this.putAside();
    try {
      const key = memory.get("undo") || newToken();
      memory.set("undo", key);  // the same key until it is answered, so that a lost answer takes nothing else back
      const answer = await call("undo", { campaign: this.campaign, submission: key, midnight: midnight() });
      memory.drop("undo");
      if (!answer.turn) {
        this.screen.say("There is nothing to take back.");
        return;
      }
      memory.drop(answer.turn.token);
      this.last = null;
      this.screen.paintLast(this);
      this.proceed(answer);
      this.screen.say("Taken back; change what you like and submit again.");
    } catch (error) {
      if (error.code !== "network") memory.drop("undo");
      this.screen.say(error.code === "network" ? "Not taken back: the server can't be reached. Try again." : error.message, "bad");
    }
  }

  // ---- changing one of the last ten ------------------------------------------------------------------------------

  async edit(token) {
    if (this.sending) return;
    this.dialogs.close();
    await this.putAside();
    try {
      const answer = await call("open", { turn: token });
      this.show(answer.turn, answer.turn.state !== "leased");
      this.screen.say("");
    } catch (error) {
      this.screen.say(error.message, "bad");
    }
  }

  leaveEditing() {
    if (!this.editing) return;
    memory.drop(this.assignment.token);
    this.screen.say("Left as it was.");
    this.next();
  }
}
