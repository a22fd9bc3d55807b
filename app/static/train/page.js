// The Train page. It asks the server every few seconds what has changed and replaces those parts alone; what is open, focused or
// scrolled in them stays so. The server checks all that it sends.

import { addressOf } from "../shared/address.js";
import { make } from "../shared/dom.js";
import { fields } from "../shared/form_fields.js";
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

const runInAddress = () => Number(/^#run-(\d+)$/.exec(location.hash)?.[1]) || null;

// Replaces the content of a part; what is open, scrolled or focused in it stays so.
function replaceContent(part, html) {
  const open = new Map([...part.querySelectorAll("details[data-keep]")].map((node) => [node.dataset.keep, node.open]));
  const scrolled = [...part.querySelectorAll("pre")]
    .map((node) => [node.scrollTop, node.scrollHeight - node.scrollTop - node.clientHeight < AT_END]);
  const focused = part.contains(document.activeElement) ? document.activeElement.dataset : {};
  const same = focused.act ? `[data-act="${focused.act}"][data-id="${focused.id || ""}"]`
    : focused.open ? `[data-open="${focused.open}"]` : "";
  part.innerHTML = html;
  for (const node of part.querySelectorAll("details[data-keep]")) {
    if (open.has(node.dataset.keep)) node.open = open.get(node.dataset.keep);
  }
  for (const [index, node] of [...part.querySelectorAll("pre")].entries()) {
    const [top, atEnd] = scrolled[index] || [0, true];
    node.scrollTop = node.dataset.end !== undefined && atEnd ? node.scrollHeight : top;
  }
  for (const node of part.querySelectorAll("time[datetime]")) {
    node.title = node.textContent;
    node.textContent = new Date(node.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
  if (same) part.querySelector(same)?.focus();
}

function setHidden(label, hidden) {
  label.hidden = hidden;
  label.querySelector("input").required = !hidden;
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
    this.curves = new Curves(element.querySelector(".train-curves"), plotly);
    this.versions = {};      // of the parts that this page has
    this.run = runInAddress();
    this.timer = null;
    this.planTimer = null;
    this.asking = false;
    this.askAgain = false;
    this.wasEdited = false;  // whether somebody has filled in the form
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
      this.fitForm();
      this.askPlan();
    });
    this.element.addEventListener("change", (event) => { if (event.target.dataset.change) this.changeForm(event.target.dataset.change); });
    window.addEventListener("hashchange", () => {
      this.run = runInAddress();
      this.ask();
    });
  }

  say(text, bad = false) {
    this.status.textContent = text || "";
    this.status.classList.toggle("is-bad", bad);
  }

  // ---- state -----------------------------------------------------------------------------------------------------

  put(name, html) {
    if (this.parts[name]) replaceContent(this.parts[name], html);
  }

  show(state) {
    for (const [name, { html, version }] of Object.entries(state.parts)) {
      if (name === "form" && this.wasEdited) continue;  // what was typed stays; the form is replaced after the next run begins
      this.put(name, html);
      this.versions[name] = version;
      if (name === "form") this.fitForm();
      if (name === "form" || name === "news") this.askPlan(0);
    }
    this.run = state.run;
    this.openRun.hidden = this.run === null;
    if (state.figures) {
      this.versions.figures = state.figures.version;
      this.curves.draw(state.figures.of);
    }
    this.root.dataset.state = "ready";
    this.gate.hidden = true;
    this.page.hidden = false;
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
      const state = await call("GET", `state?run=${run || ""}&have=${encodeURIComponent(have)}`);
      if (this.root.dataset.state === "away") this.say("");
      this.show(state);
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

  // Only what counts for the chosen stages and start is asked for.
  fitForm() {
    const form = this.parts.form.querySelector("form");
    if (!form) return;
    const { stages = "", start = "" } = fields(form);
    for (const label of form.querySelectorAll("[data-stage]")) setHidden(label, !stages.split(",").includes(label.dataset.stage));
    for (const label of form.querySelectorAll("[data-for='replay_share']")) setHidden(label, start === "base");
  }

  askPlan(delay = PLAN_AFTER) {
    clearTimeout(this.planTimer);
    this.planTimer = setTimeout(async () => {
      if (!this.parts.form.querySelector("form")) return;
      try {
        this.put("plan", (await call("POST", "plan", fields(this.parts.form))).plan);
      } catch (error) {
        this.say(error.message, true);
      }
    }, delay);
  }

  // Another preset has other knobs, another place other presets.
  async changeForm(changed) {
    try {
      const { form, plan } = await call("POST", "form", { ...fields(this.parts.form), changed });
      this.put("form", form);
      this.put("plan", plan);
      this.fitForm();
    } catch (error) {
      this.say(error.message, true);
    }
  }

  // ---- acts ------------------------------------------------------------------------------------------------------

  click(event) {
    const line = event.target.closest("[data-open]");
    const copy = event.target.closest("[data-copy]");
    const button = event.target.closest("button[data-act]");
    if (line) {
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
      if (form.act === "retrain" && !result.bad) {
        this.wasEdited = false;
        delete this.versions.form;
        this.openRun.scrollIntoView({ block: "nearest" });
      }
      document.dispatchEvent(new Event("descore:serving"));
    } catch (error) {
      this.say(error.message, true);
    } finally {
      if (button) button.disabled = false;
      this.ask();
    }
  }

  open(run) {
    this.run = run;
    // The whole address: a page of Gradio's has a base of its own, which "#..." alone would lead to.
    history.replaceState(null, "", `${location.pathname}${location.search}#run-${run}`);
    this.ask();
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
