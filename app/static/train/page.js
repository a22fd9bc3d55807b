// The Train page. It asks the server every few seconds what has changed and replaces those parts alone; what is open, focused or
// scrolled in them stays so. The server checks all that it sends.

import { addressOf } from "../shared/address.js";
import { make } from "../shared/dom.js";
import { fields } from "../shared/form_fields.js";
import { Comparison, comparedInAddress } from "./comparison.js";
import { Curves } from "./curves.js";

const ASK_AGAIN = 3;        // seconds, where the server does not say
const PLAN_AFTER = 350;     // milliseconds after a change of the form
const AT_END = 12;          // pixels from the end within which a log follows its text

async function call(method, path, body) {
  const options = { method, headers: { Accept: "application/json" } };
  if (body) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const response = await fetch(addressOf(`api/train/${path}`), options);
  const answer = await response.json();
  if (response.ok) return answer;
  const { message = "This did not work.", code } = answer.error || {};
  throw Object.assign(new Error(message), { code, status: response.status });
}

const runInAddress = () => Number(/^#run-(\d+)/.exec(location.hash)?.[1]) || null;

// Replaces the content of a part; what is open, scrolled or focused in it stays so.
function replaceContent(part, html) {
  const open = new Map([...part.querySelectorAll("details[data-keep]")].map((node) => [node.dataset.keep, node.open]));
  const scrolled = [...part.querySelectorAll("pre")]
    .map((node) => [node.scrollTop, node.scrollHeight - node.scrollTop - node.clientHeight < AT_END]);
  const focused = part.contains(document.activeElement) ? document.activeElement.dataset : {};
  const same = focused.act ? `[data-act="${focused.act}"][data-id="${focused.id || ""}"]`
    : focused.open ? `[data-open="${focused.open}"]`
    : focused.compare ? `[data-compare="${focused.compare}"]` : "";
  part.innerHTML = html;
  for (const node of part.querySelectorAll("details[data-keep]")) {
    if (open.has(node.dataset.keep)) node.open = open.get(node.dataset.keep);
  }
  for (const [index, node] of [...part.querySelectorAll("pre")].entries()) {
    const [top, atEnd] = scrolled[index] || [0, true];
    node.scrollTop = node.dataset.end !== undefined && atEnd ? node.scrollHeight : top;
  }
  if (same) part.querySelector(same)?.focus();
}

// Whether somebody writes in a part whose new content has the same field: that would be lost.
function isBeingWritten(part, html) {
  const text = part.querySelector("textarea");
  return Boolean(text) && text.value !== text.defaultValue && html.includes(`data-id="${text.form.dataset.id}"`);
}

// A control, or a group of them, that is hidden need not be filled in.
function setHidden(part, hidden) {
  part.hidden = hidden;
  for (const input of part.querySelectorAll("input")) input.required = !hidden && input.type === "number";
}

// The settings of the form, kept in this browser: all but what is meant for one run, its name and its promotion.
const KEPT = "descore:retrain";
const FOR_ONE_RUN = ["name", "auto_promote"];

function keptSettings() {
  try { return JSON.parse(localStorage.getItem(KEPT)); } catch { return null; }
}

function keepSettings(settings) {
  const kept = settings && Object.fromEntries(Object.entries(settings).filter(([name]) => !FOR_ONE_RUN.includes(name)));
  try {
    if (kept) localStorage.setItem(KEPT, JSON.stringify(kept));
    else localStorage.removeItem(KEPT);
  } catch { /* a browser that keeps nothing */ }
}

class TrainPage {
  constructor(element, plotly) {
    this.element = element;
    this.root = element.querySelector(".train");
    this.page = element.querySelector(".train-page");
    this.gate = element.querySelector(".train-gate");
    this.status = element.querySelector(".train-status");
    this.openRun = element.querySelector(".train-run");
    this.parts = Object.fromEntries([...element.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));
    this.curves = new Curves(this.openRun.querySelector(".train-curves"), plotly);
    this.comparison = new Comparison(element, plotly, {
      load: (runs) => call("GET", `compare?runs=${runs}`),
      put: replaceContent,
      changed: () => {
        this.setAddress();
        this.compare();
      },
    });
    this.versions = {};      // of the parts that this page has
    this.run = runInAddress();
    this.timer = null;
    this.planTimer = null;
    this.formNumber = 0;     // of the forms that were asked for: a plan belongs to one of them
    this.changing = 0;       // forms on their way, each with its plan
    this.asking = false;
    this.askAgain = false;
    this.wasEdited = false;  // whether somebody has filled in the form
    this.startedHere = false;
    this.listen();
    this.ask();
  }

  listen() {
    this.element.addEventListener("click", (event) => this.click(event));
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      const { act, id = "" } = event.target.dataset;
      this.act({ ...fields(event.target), act, id }, event.target.querySelector("[type='submit']"));
    });
    this.element.addEventListener("input", (event) => {
      if (!this.parts.form.contains(event.target)) return;
      this.wasEdited = true;
      keepSettings(fields(this.parts.form));
      this.fitForm();
      this.askPlan();
    });
    this.element.addEventListener("change", (event) => { if (event.target.dataset.change) this.changeForm(event.target.dataset.change); });
    window.addEventListener("hashchange", () => {
      this.run = runInAddress();
      this.comparison.set(comparedInAddress());
      this.ask();
    });
  }

  say(text, bad = false) {
    this.status.textContent = text || "";
    this.status.classList.toggle("is-bad", bad);
  }

  // ---- state -----------------------------------------------------------------------------------------------------

  put(name, html) {
    const part = this.parts[name];
    if (!part || isBeingWritten(part, html)) return;
    replaceContent(part, html);
    if (name === "runs") this.comparison.fitBoxes();
  }

  show(state) {
    for (const [name, { html, version }] of Object.entries(state.parts)) {
      this.versions[name] = version;
      if (name === "form" && this.wasEdited) continue;  // what was typed stays; the form is replaced after the next run begins
      this.put(name, html);
      if (name === "form") this.fillForm();
      else if (name === "news") this.askPlan(0);
    }
    this.run = state.run;
    this.openRun.hidden = this.run === null;
    this.placeRun(state.live);
    if (state.figures) {
      this.versions.figures = state.figures.version;
      this.curves.draw(state.figures.of);
    }
    if (this.root.dataset.state === "ready" && this.comparison.isLive) this.compare();
    this.root.dataset.state = "ready";
    this.gate.hidden = true;
    this.page.hidden = false;
  }

  async compare() {
    try {
      await this.comparison.show();
      this.comparison.draw();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  // A run that goes on comes first. What somebody looks at stays where it is: only a fresh page, or a run started on it, moves.
  placeRun(isLive) {
    if (!isLive || (this.root.dataset.state === "ready" && !this.startedHere)) return;
    this.parts.aside.after(this.parts.runs, this.comparison.article, this.openRun);
    if (this.startedHere) this.parts.runs.scrollIntoView({ block: "start" });
    this.startedHere = false;
  }

  async ask() {
    if (this.asking) {
      this.askAgain = true;
      return;
    }
    this.asking = true;
    clearTimeout(this.timer);
    let seconds = ASK_AGAIN;
    try {
      const run = location.hash.startsWith("#run-") ? this.run : null;
      const have = Object.entries(this.versions).map((pair) => pair.join(":")).join(",");
      const isFirst = this.root.dataset.state !== "ready";
      const [state] = await Promise.all([
        call("GET", `state?run=${run || ""}&have=${encodeURIComponent(have)}`),
        isFirst ? this.comparison.show().catch((error) => this.say(error.message, true)) : null,
      ]);
      if (this.root.dataset.state === "away") this.say("");
      this.show(state);
      if (isFirst) this.comparison.draw();
      seconds = state.seconds;
    } catch (error) {
      if (error.status === 401 || error.status === 403) {
        this.showRefusal(error);
        return;
      }
      if (this.root.dataset.state === "ready") this.root.dataset.state = "away";
      this.say("The app does not answer just now; this page asks again. A run goes on without it.", true);
    } finally {
      this.asking = false;
    }
    if (!this.element.isConnected) return;
    if (this.askAgain) {
      this.askAgain = false;
      this.ask();
      return;
    }
    this.timer = setTimeout(() => (document.hidden ? this.askWhenSeen() : this.ask()), seconds * 1000);
  }

  askWhenSeen() { document.addEventListener("visibilitychange", () => this.ask(), { once: true }); }

  showRefusal(error) {
    const unknown = error.status === 401;
    const link = make("a", "", unknown ? "Sign in" : "Sign in as somebody else");
    link.href = addressOf("sign-in?next=/train");
    this.gate.replaceChildren(unknown ? "This page is for leads. " : `${error.message} `, link);
    this.gate.hidden = false;
    this.page.hidden = true;
  }

  // ---- the form --------------------------------------------------------------------------------------------------

  // The settings that this browser has kept, in a form that the server has made for them.
  fillForm() {
    const settings = keptSettings();
    this.fitForm();
    if (settings && this.parts.form.querySelector("form")) {
      this.wasEdited = true;
      this.changeForm("", settings);
    } else {
      this.askPlan(0);
    }
  }

  // Only what counts for the chosen stages and start is asked for.
  fitForm() {
    const form = this.parts.form.querySelector("form");
    if (!form) return;
    const { stages = "", start = "" } = fields(form);
    const shown = [...stages.split(","), start === "base" ? "" : "replay"];
    for (const group of form.querySelectorAll("[data-group]")) setHidden(group, !shown.includes(group.dataset.group));
    form.querySelector("[data-reset]").hidden = !keptSettings();
  }

  askPlan(delay = PLAN_AFTER) {
    clearTimeout(this.planTimer);
    this.planTimer = setTimeout(async () => {
      if (this.changing || !this.parts.form.querySelector("form")) return;
      const number = this.formNumber;
      try {
        const { plan } = await call("POST", "plan", fields(this.parts.form));
        if (number === this.formNumber) this.put("plan", plan);
      } catch (error) {
        this.say(error.message, true);
      }
    }, delay);
  }

  // Another preset has other knobs, another place other presets.
  async changeForm(changed, settings = fields(this.parts.form)) {
    this.formNumber += 1;
    this.changing += 1;
    try {
      const { form, plan } = await call("POST", "form", { ...settings, changed });
      this.put("form", form);
      this.put("plan", plan);
      if (changed) keepSettings(fields(this.parts.form));
      this.fitForm();
    } catch (error) {
      this.say(error.message, true);
    } finally {
      this.changing -= 1;
    }
  }

  forgetSettings() {
    keepSettings(null);
    this.wasEdited = false;
    delete this.versions.form;
    this.ask();
  }

  // ---- acts ------------------------------------------------------------------------------------------------------

  click(event) {
    const line = event.target.closest("[data-open]");
    const copy = event.target.closest("[data-copy]");
    const button = event.target.closest("button[data-act]");
    if (event.target.closest("[data-reset]")) {
      this.forgetSettings();
    } else if (line) {
      this.open(Number(line.dataset.open));
    } else if (copy) {
      this.copyText(copy);
    } else if (button && (!button.dataset.confirm || window.confirm(button.dataset.confirm))) {
      this.act({ act: button.dataset.act, id: button.dataset.id || "" }, button);
    }
  }

  async act(form, button) {
    if (button) button.disabled = true;
    if (form.act === "promote" || form.act === "roll_back") this.say("Loading the checkpoint ...");
    try {
      const result = await call("POST", "act", form);
      this.say(result.said, result.bad);
      if (result.run && !result.bad) this.open(result.run);
      if (form.act === "note" && !result.bad) this.closeNote(form.text);
      if (form.act === "retrain" && !result.bad) {
        this.wasEdited = false;
        this.startedHere = true;
        delete this.versions.form;
      }
      document.dispatchEvent(new Event("descore:serving"));
    } catch (error) {
      this.say(error.message, true);
    } finally {
      if (button) button.disabled = false;
      this.ask();
    }
  }

  // What was written is saved: the server's text may take its place.
  closeNote(text) {
    const field = this.parts.note.querySelector("textarea");
    field.defaultValue = text;
    field.closest("details").open = false;
  }

  open(run) {
    this.run = run;
    this.setAddress(run);
    this.ask();
  }

  // The open run, and those that are compared. The whole address: a page of Gradio's has a base of its own, which "#..." alone
  // would lead to.
  setAddress(run = runInAddress()) {
    const { runs } = this.comparison;
    const parts = [run && `run-${run}`, runs.length && `compare=${runs.join(",")}`].filter(Boolean).join("&");
    history.replaceState(null, "", `${location.pathname}${location.search}${parts && `#${parts}`}`);
  }

  async copyText(button) {
    const text = this.element.querySelector(button.dataset.copy);
    getSelection().selectAllChildren(text);
    try { await navigator.clipboard.writeText(text.textContent); button.textContent = "Copied"; } catch { document.execCommand("copy"); }
  }
}

export function mount({ element, plotly }) {
  new TrainPage(element, plotly);
}
